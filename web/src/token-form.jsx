// The form for an API token, shown if the page has none or the server rejected it.

import { Wordmark } from "./wordmark.jsx";

export function TokenForm({ problem, onToken }) {
  function submit(event) {
    event.preventDefault();
    const token = new FormData(event.currentTarget).get("token").trim().replace(/^Bearer\s+/i, "");
    if (token) onToken(token);
  }

  return (
    <main className="token">
      <form onSubmit={submit}>
        <h1>
          <Wordmark />
        </h1>
        {problem && (
          <p className="problem" role="alert">
            {problem}
          </p>
        )}
        <label htmlFor="token">Your API token</label>
        <p id="token-hint">
          The first start of the server creates a token, prints it in the GraphiQL link, and stores it in the file{" "}
          <code>admin-token</code> of the data directory, normally <code>.ringback/admin-token</code>. To create another, run{" "}
          <code>ringback token create NAME</code>.
        </p>
        <div className="row">
          <input
            id="token"
            name="token"
            type="password"
            required
            autoFocus
            autoComplete="off"
            spellCheck="false"
            aria-describedby="token-hint"
          />
          <button type="submit">Open</button>
        </div>
        <p>The page keeps the token in the session storage of this browser tab, until you close the tab.</p>
      </form>
    </main>
  );
}
