// urql for queries and mutations over HTTP, graphql-ws for what runs over a WebSocket.

import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const url = `${process.env["RINGBACK_URL"] ?? "http://127.0.0.1:8000"}/graphql`;
const token = process.env["RINGBACK_TOKEN"];
if (!token) {
  console.error("Set RINGBACK_TOKEN to an API token.");
  process.exit(1);
}
const Authorization = `Bearer ${token}`;

export const socket = createClient({
  url: url.replace("http", "ws"),
  webSocketImpl: WebSocket, // Node.js has one of its own from version 22 on
  connectionParams: { Authorization },
  retryAttempts: 0, // log.ts tries again, from the right place
});

export const client = new Client({
  url,
  fetchOptions: { headers: { Authorization } },
  exchanges: [
    subscriptionExchange({
      // A mutation may go over the WebSocket too: client.mutation(…, …, { overSocket: true }).
      isSubscriptionOperation: ({ kind, context }) => kind === "subscription" || context["overSocket"] === true,
      forwardSubscription: ({ query = "", variables }) => ({
        subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables: { ...variables } }, sink) }),
      }),
    }),
    fetchExchange,
  ],
});
