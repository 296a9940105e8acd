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
          The server prints a link with its first token when it starts. An administrator makes more with{" "}
          <code>createApiToken</code>.
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
        <p>It stays in this browser tab, until you close it.</p>
      </form>
    </main>
  );
}
