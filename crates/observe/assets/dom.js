// Helpers for the document. Text of the server goes through textContent only: it is not trusted.

const SVG = 'http://www.w3.org/2000/svg';

export function byId(id) {
  return document.getElementById(id);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) {
      continue;
    }
    if (name === 'text') {
      node.textContent = value;
    } else if (name.startsWith('on')) {
      node.addEventListener(name.slice(2), value);
    } else {
      node.setAttribute(name, value === true ? '' : String(value));
    }
  }
  node.append(...children);
  return node;
}

/** An element of HTML: `el('td', {class: 'number', text: '7'})`. */
export function el(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An element of SVG. */
export function svg(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Sets the text only if it differs: a live region or a selection is not disturbed for nothing. */
export function setText(node, text) {
  const value = String(text);
  if (node.textContent !== value) {
    node.textContent = value;
  }
}

/** Replaces rows only if what they are made of has changed. */
export function renderIfChanged(node, data, render) {
  const key = JSON.stringify(data);
  if (node.renderedFrom === key) {
    return;
  }
  node.renderedFrom = key;
  node.replaceChildren(...render(data));
}
