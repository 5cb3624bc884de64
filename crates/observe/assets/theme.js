// Not a module: runs before the page is painted, so that it never shows the other theme first.
(function () {
  'use strict';
  const key = 'tine-theme';
  const root = document.documentElement;
  const dark = window.matchMedia('(prefers-color-scheme: dark)');

  function stored() {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  }

  function apply() {
    const theme = stored() || (dark.matches ? 'dark' : 'light');
    root.dataset.theme = theme;
    const button = document.getElementById('theme');
    if (button) {
      button.textContent = theme === 'dark' ? 'Light theme' : 'Dark theme';
    }
    root.dispatchEvent(new CustomEvent('themechange'));
  }

  function toggle() {
    try {
      localStorage.setItem(key, root.dataset.theme === 'dark' ? 'light' : 'dark');
    } catch {
      // Without storage the theme of the system stays.
    }
    apply();
  }

  apply();
  dark.addEventListener('change', apply);
  document.addEventListener('DOMContentLoaded', function () {
    apply();
    document.getElementById('theme').addEventListener('click', toggle);
  });
})();
