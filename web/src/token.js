// The API token of this browser tab.
//
// It arrives in the fragment of the link that the server prints (`/graphql#token=…`): browsers never send
// fragments, so no log contains it. It is removed from the address bar at once, before it can be copied or
// bookmarked, and stored in sessionStorage: deleted with the tab, and out of reach of GraphiQL, which
// uses localStorage.

const KEY = "ringback:token";

/** Moves a token from the address bar into the session. Returns whether there was one. */
export function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token")?.trim();
  if (token === undefined) return false;
  history.replaceState(history.state, "", location.pathname + location.search);
  if (token) keepToken(token);
  return Boolean(token);
}

let inMemory = null; // used if the browser refuses storage: the token lasts as long as the page

/** Returns the token of this tab, or null. */
export function currentToken() {
  try {
    return sessionStorage.getItem(KEY) ?? inMemory;
  } catch {
    return inMemory;
  }
}

/** Stores a token until the tab is closed. */
export function keepToken(token) {
  inMemory = token;
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // The token stays in memory only.
  }
}

/** Deletes the token, also from the session. */
export function forgetToken() {
  inMemory = null;
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // The token was only in memory.
  }
}
