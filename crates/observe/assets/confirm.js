// The dialog that asks before anything is changed. Nothing happens without its second button, and
// the first one, which cancels, has the focus.

import { byId, setText } from './dom.js';

let current = null;

/** Tells a result: on the page, or in the details if these are open, since they hide the page. */
export function tell(text) {
  const details = byId('details');
  setText(byId(details.open ? 'details-result' : 'announce'), text);
  setText(byId('result-text'), text);
  byId('result').hidden = details.open || text === '';
}

/** The focus is where it was, or at `fallback` if that has gone. */
function settle(opener, fallback) {
  if (!opener?.isConnected || !opener.checkVisibility() || opener.disabled) {
    fallback?.focus();
  } else {
    opener.focus();
  }
}

/**
 * Asks, and does it if the answer is yes. `run` does it and returns the words for what was done;
 * what it throws is shown, and can be tried again. `fields` names the fields of the question.
 */
export function ask({ title, text, action, run, fields, fallback, after }) {
  const dialog = byId('confirm');
  if (dialog.open) {
    return;
  }
  current = { run, fallback, after, opener: document.activeElement };
  setText(byId('confirm-title'), title);
  setText(byId('confirm-text'), text);
  setText(byId('confirm-do'), action);
  setText(byId('confirm-problem'), '');
  byId('confirm-do').disabled = false;
  for (const one of dialog.querySelectorAll('[data-fields]')) {
    one.hidden = one.dataset.fields !== fields;
  }
  tell('');
  dialog.showModal();
  byId('confirm-cancel').focus();
}

async function perform() {
  const asked = current;
  const dialog = byId('confirm');
  const button = byId('confirm-do');
  button.disabled = true;
  dialog.setAttribute('aria-busy', 'true');
  setText(byId('confirm-problem'), '');
  try {
    const words = await asked.run();
    if (current === asked) {
      dialog.close();
    }
    tell(words);
    asked.after?.();
    settle(asked.opener, asked.fallback);
  } catch (error) {
    const words = `It was not done: ${error.message}.`;
    if (current === asked) {
      setText(byId('confirm-problem'), words);
      button.disabled = false;
      button.focus();
    } else {
      // The question was closed meanwhile.
      tell(words);
    }
  } finally {
    dialog.removeAttribute('aria-busy');
  }
}

export function setUpConfirm() {
  const dialog = byId('confirm');
  byId('confirm-cancel').addEventListener('click', () => dialog.close());
  byId('confirm-do').addEventListener('click', perform);
  // Also after Escape.
  dialog.addEventListener('close', () => {
    const closed = current;
    current = null;
    if (closed) {
      settle(closed.opener, closed.fallback);
    }
  });
  byId('result-close').addEventListener('click', () => {
    byId('result').hidden = true;
    byId('main').focus();
  });
}
