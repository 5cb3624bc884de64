// The dialog that asks before anything is changed. Nothing happens without its second button, and
// the first one, which cancels, has the focus.

import { byId, setText } from './dom.js';

// The question that is open, or was last.
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

/** The event of a close comes late: meanwhile the dialog is closed, or asks the next question. */
function isOpen(asked) {
  return current === asked && byId('confirm').open;
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
  dialog.removeAttribute('aria-busy');
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
    if (isOpen(asked)) {
      dialog.close();
    }
    tell(words);
    asked.after?.();
    settle(asked.opener, asked.fallback);
  } catch (error) {
    const words = `It was not done: ${error.message}.`;
    if (isOpen(asked)) {
      setText(byId('confirm-problem'), words);
      dialog.removeAttribute('aria-busy');
      button.disabled = false;
      button.focus();
    } else {
      // The question was closed meanwhile.
      tell(words);
    }
  }
}

export function setUpConfirm() {
  const dialog = byId('confirm');
  byId('confirm-cancel').addEventListener('click', () => dialog.close());
  byId('confirm-do').addEventListener('click', perform);
  // Also after Escape.
  dialog.addEventListener('close', () => {
    if (!dialog.open) {
      settle(current.opener, current.fallback);
    }
  });
  byId('result-close').addEventListener('click', () => {
    byId('result').hidden = true;
    byId('main').focus();
  });
}
