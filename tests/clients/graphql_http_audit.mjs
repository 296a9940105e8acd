// Runs the audit suite of the npm package graphql-http and prints each audit as one JSON value a line.
//
//   RINGBACK_TOKEN=rbk_… node graphql_http_audit.mjs http://127.0.0.1:8000/graphql
//
// {"name": "MUST accept POST requests", "status": "ok"}      or "notice", "warn", "error", with a "reason"

import { serverAudits } from "graphql-http";

const [url] = process.argv.slice(2);

// The audits know nothing of tokens.
function fetchFn(address, { headers, ...options } = {}) {
  return fetch(address, { ...options, headers: { ...headers, authorization: `Bearer ${process.env.RINGBACK_TOKEN}` } });
}

for (const audit of serverAudits({ url, fetchFn })) {
  const { name, status, reason } = await audit.fn();
  process.stdout.write(`${JSON.stringify({ name, status, reason })}\n`);
}
