// Test-fires a webhook, follows the delivery to its end, and shows what the cache makes of it: the live log and
// queries select different parts of the same attempts, and none takes from the cache what another has put there.

import { concatMap, lastValueFrom, takeWhile, toArray } from "rxjs";
import { client, socket } from "./clients.js";
import * as documents from "./generated.js";
import { type LogEntry, follow } from "./log.js";

const responses = [{ statusCode: 503, body: "busy" }, { body: "thank you" }];
const made = await client.mutate({
  mutation: documents.CreateInboxDocument,
  variables: { input: { name: "Apollo", responses } },
});
const inbox = found(made.data?.createInbox?.inbox, made);
console.log(`inbox ${inbox.id}`);

const saved = await client.mutate({
  mutation: documents.CreateWebhookDocument,
  variables: {
    input: {
      name: "Apollo",
      model: "lead",
      actions: ["CREATED"],
      url: inbox.url,
      sendJson: true,
      retryDelaysSeconds: [0, 1],
    },
  },
});
const webhook = found(saved.data?.createWebhook?.webhook, saved);
console.log(`webhook ${webhook.id}`);
const filter = { webhookIds: [webhook.id] };

// 1. Follow the log. The connection is cut after the first entry, as a network would; the log goes on nevertheless.
const log = lastValueFrom(follow(client, filter).pipe(takeWhile(isNotTheLast, true), concatMap(show), toArray()));
const fired = testFire();
const id = await fired;
console.log(`event ${id}`);
const entries = await log;

// 2. Begin with an empty cache. A query puts the bodies of the attempts into it, and nothing else of them;
//    the same log entries once more add what they select; so does a query for another part of the requests.
await client.clearStore();
await client.query({ query: documents.EventBodiesDocument, variables: { id } });
await lastValueFrom(follow(client, filter, found(entries[0]).cursor).pipe(takeWhile(isNotTheLast, true)));
await client.query({ query: documents.EventMethodsDocument, variables: { id }, fetchPolicy: "network-only" });
const event = found(
  client.cache.readFragment({ fragment: documents.WholeEventFragmentDoc, from: { __typename: "Event", id } }),
  "the cache lost a part of the event",
);
console.log(`${event.status} after ${event.attempts.length} attempts`);
for (const { number, outcome, statusCode, request, response } of event.attempts) {
  console.log(`${number}. ${request?.method} ${request?.body} -> ${outcome} ${statusCode} ${response?.body}`);
}

// 3. Read a list page by page; the cache makes one list of the pages.
await testFire();
let list: documents.EventsQuery["events"] | undefined;
do {
  const { data } = await client.query({
    query: documents.EventsDocument,
    variables: { filter, first: 1, after: list?.pageInfo.endCursor },
    fetchPolicy: "network-only",
  });
  list = found(data?.events);
} while (list.pageInfo.hasNextPage);
console.log(`${list.edges.length} events in the list`);
await socket.dispose();

async function testFire(): Promise<string> {
  // Over the WebSocket, where operations are taken in turn: a log that was asked for before is being followed by then.
  const { data } = await client.mutate({
    mutation: documents.TestFireDocument,
    variables: { input: { webhookId: webhook.id } },
    context: { overSocket: true },
  });
  return found(data?.testFireWebhook?.event, data).id;
}

async function show(entry: LogEntry): Promise<LogEntry> {
  await fired; // its answer and the first entry come in any order, over the connection that is cut here
  console.log(`${entry.kind}: ${entry.message}`);
  if (entry.kind === "EVENT_RECORDED") socket.terminate();
  return entry;
}

function isNotTheLast({ kind }: LogEntry): boolean {
  return kind !== "EVENT_SUCCEEDED" && kind !== "EVENT_FAILED";
}

/** What an answer must hold; throws the answer when it does not. */
function found<T>(object: T | null | undefined, answer: unknown = "an answer is empty"): T {
  if (object) return object;
  throw new Error(JSON.stringify(answer));
}
