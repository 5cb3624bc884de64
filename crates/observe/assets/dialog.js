// Dialogs that show what is known about one thing: their list of fields, and how they are closed.

import { byId, el } from './dom.js';

/**
 * Fills a list with fields of an object. `fields` has, by name and in the order shown, a label and
 * a function that makes text of the value. Fields without a value are left out.
 */
export function showFields(list, fields, object, others = []) {
  const known = Object.keys(fields).filter((name) => object[name] !== undefined && object[name] !== null);
  const items = [...known.map((name) => [fields[name][0], fields[name][1](object[name])]), ...others];
  byId(list).replaceChildren(...items.flatMap(([name, value]) =>
    [el('dt', { text: name }), el('dd', { text: value })]));
}

/** A dialog is closed by its button, and by a click beside it. */
export function setUpDialog(name) {
  const dialog = byId(name);
  byId(`${name}-close`).addEventListener('click', () => dialog.close());
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) {
      dialog.close();
    }
  });
}
