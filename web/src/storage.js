// Storage for GraphiQL's tabs, history and theme: localStorage with its own key prefix, because other programs
// on the same host and port may have their own GraphiQL, as on development machines.

const PREFIX = "ringback:";

export const storage = {
  getItem: (key) => localStorage.getItem(PREFIX + key),
  setItem: (key, value) => localStorage.setItem(PREFIX + key, value),
  removeItem: (key) => localStorage.removeItem(PREFIX + key),
  clear: () => ownKeys().forEach((key) => localStorage.removeItem(key)),
  get length() {
    return ownKeys().length;
  },
};

/** Returns the tab that was open last, or null on a first visit. */
export function lastTab() {
  try {
    const { tabs, activeTabIndex } = JSON.parse(storage.getItem("graphiql:tabState"));
    return tabs[activeTabIndex] ?? null;
  } catch {
    return null;
  }
}

function ownKeys() {
  return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
}
