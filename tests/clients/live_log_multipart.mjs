// Follows the live log with Apollo Client's HttpLink (multipart subscriptions) and prints what it gets, one JSON value a
// line.
//
//   RINGBACK_TOKEN=rbk_… node live_log_multipart.mjs http://127.0.0.1:8000/graphql COUNT [AFTER]
//
// {"answered": …}                a query over the same link
// {"entry": …}                   COUNT times, then the client ends the subscription
// {"protocolErrors": …}          the errors with which the server ended the subscription
// {"failed": …}                  the status of a refusal, or what went wrong with the connection

import { ApolloClient, CombinedProtocolErrors, gql, HttpLink, InMemoryCache } from "@apollo/client";

const [uri, count, after = null] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${process.env.RINGBACK_TOKEN}` };
const client = new ApolloClient({ link: new HttpLink({ uri, headers }), cache: new InMemoryCache() });

const LOG = gql`subscription DeliveryLog($after: String) {
  deliveryLog(after: $after) { cursor kind event { id } attempt { number outcome statusCode } }
}`;
let left = Number(count);

try {
  const { data } = await client.query({ query: gql`{ viewer { token { name role } } }` });
  print({ answered: data });
  await follow();
} catch (problem) {
  print({ failed: problem.statusCode ?? problem.message });
}

function follow() {
  return new Promise((resolve, reject) => {
    const subscription = client.subscribe({ query: LOG, variables: { after } }).subscribe({
      next: ({ data, error }) => {
        if (CombinedProtocolErrors.is(error)) return print({ protocolErrors: error.errors });
        if (error) return reject(error);
        print({ entry: data.deliveryLog });
        left -= 1;
        if (left === 0) {
          subscription.unsubscribe();
          resolve();
        }
      },
      error: reject,
      complete: resolve,
    });
  });
}

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
