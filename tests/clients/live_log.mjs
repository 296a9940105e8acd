// Follows the live log with the npm client graphql-ws and prints what it gets, one JSON value a line.
//
//   RINGBACK_TOKEN=rbk_… node live_log.mjs ws://127.0.0.1:8000/graphql COUNT [AFTER]
//
// {"listening": token}           the subscription runs, and a query on the same connection was answered
// {"entry": …}                   COUNT times, then the client completes the subscription
// {"errors": …}                  the server's `error` message, or the errors of a `next`
// {"closed": {code, reason}}     the server closed the connection
//
// Without RINGBACK_TOKEN, connection_init carries none.

import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [url, count, after = null] = process.argv.slice(2);
const token = process.env.RINGBACK_TOKEN;

const client = createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: token ? { Authorization: `Bearer ${token}` } : undefined,
  retryAttempts: 0,
});

const LOG = `subscription DeliveryLog($after: String) {
  deliveryLog(after: $after) { cursor kind event { id } attempt { number outcome statusCode } }
}`;
let left = Number(count);
const stop = client.subscribe(
  { query: LOG, variables: { after } },
  {
    next: ({ data, errors }) => {
      if (left === 0) return; // it had come before the server was told to stop
      if (errors) return print({ errors });
      print({ entry: data.deliveryLog });
      left -= 1;
      if (left === 0) stop();
    },
    error: report,
    complete: () => client.dispose(),
  },
);
// The server takes operations in turn, so an answer to this one says that the subscription has begun.
client.subscribe(
  { query: "{ viewer { token { name role } } }" },
  { next: ({ data }) => print({ listening: data.viewer.token }), error: () => {}, complete: () => {} },
);

function report(problem) {
  print(Array.isArray(problem) ? { errors: problem } : { closed: { code: problem.code, reason: problem.reason } });
  client.dispose();
}

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
