// The API token of this browser tab.
//
// It arrives in the fragment of the link that the server prints (`/graphql#token=…`): browsers never
// send a fragment, so no log can hold it. It is taken out of the address bar at once, before anyone
// copies or bookmarks it, and lives in sessionStorage: gone with the tab, and out of reach of
// GraphiQL, which keeps its own settings in localStorage.

const KEY = "ringback:token";

/** Moves a token from the address bar into the session; says whether there was one. */
export function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token")?.trim();
  if (token === undefined) return false;
  history.replaceState(history.state, "", location.pathname + location.search);
  if (token) keepToken(token);
  return Boolean(token);
}

let inMemory = null; // where a browser refuses storage, the token lives as long as the page

/** The token of this tab, or null. */
export function currentToken() {
  try {
    return sessionStorage.getItem(KEY) ?? inMemory;
  } catch {
    return inMemory;
  }
}

/** Remembers a token until the tab is closed. */
export function keepToken(token) {
  inMemory = token;
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // Kept in memory only.
  }
}

/** Forgets the token, in the session too. */
export function forgetToken() {
  inMemory = null;
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // There was nothing but memory.
  }
}
