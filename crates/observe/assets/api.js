// Requests to the observer, with the token, if there is one.

const KEY = 'tine-token';
let onUnauthorized = () => {};

/** Takes the token from the fragment of the address, and the fragment out of the address bar. */
export function takeToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get('token');
  if (token !== null) {
    setToken(token);
    history.replaceState(null, '', location.pathname + location.search);
  }
}

// Also in memory: storage may be forbidden.
let memory = null;

export function setToken(token) {
  memory = token;
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // The token then lasts until the page is loaded again.
  }
}

function token() {
  try {
    return sessionStorage.getItem(KEY) ?? memory;
  } catch {
    return memory;
  }
}

export function whenUnauthorized(handler) {
  onUnauthorized = handler;
}

export class Unauthorized extends Error {}

/** A fetch below `api/v1/`, relative to the page: a proxy may serve it below a path. */
export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token()) {
    headers.set('Authorization', `Bearer ${token()}`);
  }
  const response = await fetch(`api/v1/${path}`, { ...options, headers, cache: 'no-store' });
  if (response.status === 401) {
    onUnauthorized();
    throw new Unauthorized('the token is missing or wrong');
  }
  if (!response.ok) {
    throw new Error(await reason(response));
  }
  return response;
}

/** Why a request has failed, in the words of the observer if it has any. */
async function reason(response) {
  try {
    const { error } = await response.json();
    if (typeof error === 'string') {
      return error;
    }
  } catch {
    // Something before the observer has replied.
  }
  return `the observer replied with ${response.status}`;
}

/** Has the server change something. It may take some seconds to end connections. */
export async function steer(method, path, body) {
  const options = { method, signal: AbortSignal.timeout(60000) };
  if (method === 'POST') {
    options.headers = { 'Content-Type': 'application/json' };
    options.body = JSON.stringify(body ?? {});
  }
  const response = await request(path, options);
  return response.json();
}

/** The JSON of a resource. `query` without the parameters that are empty. */
export async function get(path, query = {}, signal = AbortSignal.timeout(15000)) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') {
      parameters.set(name, value);
    }
  }
  const text = parameters.toString();
  const response = await request(text ? `${path}?${text}` : path, { signal });
  return response.json();
}
