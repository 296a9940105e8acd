// Apollo Client for queries, mutations and subscriptions in one cache, graphql-ws for what runs over a WebSocket.

import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { relayStylePagination } from "@apollo/client/utilities";
import { createClient } from "graphql-ws";
import { WebSocket } from "ws";

const uri = `${process.env["RINGBACK_URL"] ?? "http://127.0.0.1:8000"}/graphql`;
const token = process.env["RINGBACK_TOKEN"];
if (!token) {
  console.error("Set RINGBACK_TOKEN to an API token.");
  process.exit(1);
}
const Authorization = `Bearer ${token}`;

Object.assign(globalThis, { WebSocket }); // Node.js has one of its own from version 22 on; GraphQLWsLink needs it there

export const socket = createClient({
  url: uri.replace("http", "ws"),
  connectionParams: { Authorization },
  retryAttempts: 0, // log.ts tries again, from the right place
});

export const client = new ApolloClient({
  link: ApolloLink.split(
    // A mutation may go over the WebSocket too: client.mutate({ …, context: { overSocket: true } }).
    ({ operationType, getContext }) => operationType === "subscription" || getContext()["overSocket"] === true,
    new GraphQLWsLink(socket),
    new HttpLink({ uri, headers: { Authorization } }),
  ),
  cache: new InMemoryCache({
    // What has an id is normalised by it. These two have none, since they belong to one attempt: parts go together.
    typePolicies: {
      AttemptRequest: { merge: true },
      AttemptResponse: { merge: true },
      Query: { fields: { events: relayStylePagination(["filter"]) } },
    },
  }),
});
