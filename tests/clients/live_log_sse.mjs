// Follows the live log with the npm client graphql-sse and prints what it gets, one JSON value a line.
//
//   RINGBACK_TOKEN=rbk_… node live_log_sse.mjs http://127.0.0.1:8000/graphql COUNT [AFTER]
//
// {"answered": …}                a query, over a stream of its own
// {"connected": true}            the subscription's stream is open
// {"entry": …}                   COUNT times, then the client ends the subscription
// {"errors": …}                  the errors of a `next`
// {"completed": true}            the server said that there are no more
// {"failed": …}                  the status of a refusal, or what went wrong with the connection

import { createClient } from "graphql-sse";

const [url, count, after = null] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${process.env.RINGBACK_TOKEN}` };
const client = createClient({ url, headers, retryAttempts: 0 });

const LOG = `subscription DeliveryLog($after: String) {
  deliveryLog(after: $after) { cursor kind event { id } attempt { number outcome statusCode } }
}`;

let left = Number(count);
let stop;
await run({ query: "{ viewer { token { name role } } }" }, ({ data }) => print({ answered: data }));
await run(
  { query: LOG, variables: { after } },
  ({ data, errors }) => {
    if (left === 0) return; // it had come before the server was told to stop
    if (errors) return print({ errors });
    print({ entry: data.deliveryLog });
    left -= 1;
    if (left === 0) stop();
  },
  () => print({ completed: true }),
  { connected: () => print({ connected: true }) },
);

function run(request, next, complete = () => {}, on = {}) {
  return new Promise((resolve) => {
    stop = client.subscribe(
      request,
      {
        next,
        error: (problem) => {
          print({ failed: problem.response?.status ?? problem.message });
          resolve();
        },
        complete: () => {
          // What the client itself has ended completes, too.
          if (left > 0) complete();
          resolve();
        },
      },
      on,
    );
  });
}

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
