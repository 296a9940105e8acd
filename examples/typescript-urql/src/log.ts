// The live log without a gap and without a repetition, whatever happens to the connection.

import { setTimeout } from "node:timers/promises";
import type { Client, CombinedError, OperationResult } from "@urql/core";
import { toAsyncIterable } from "wonka";
import { DeliveryLogDocument, type DeliveryLogFilter, type DeliveryLogSubscription } from "./generated.js";

export type LogEntry = NonNullable<DeliveryLogSubscription["deliveryLog"]>;

/** Follows the log for as long as it is read; cut short, it goes on behind the last cursor. */
export async function* follow(client: Client, filter: DeliveryLogFilter): AsyncGenerator<LogEntry, never> {
  let after: string | null = null; // from now on
  for (;;) {
    const results: AsyncIterable<OperationResult<DeliveryLogSubscription>> = toAsyncIterable(
      client.subscription(DeliveryLogDocument, { filter, after }),
    );
    for await (const { data, error } of results) {
      if (error && !isPassing(error)) throw error;
      if (!data?.deliveryLog) continue;
      after = data.deliveryLog.cursor;
      yield data.deliveryLog;
    }
    await setTimeout(500);
  }
}

/** Whether going on from the last cursor helps: the connection was lost, or we were too slow for the server. */
function isPassing({ networkError, graphQLErrors }: CombinedError): boolean {
  if (!networkError) return graphQLErrors.some(({ extensions }) => extensions["code"] === "CURSOR_BEHIND");
  const code = "code" in networkError ? Number(networkError.code) : 1006;
  return code < 4400 || code === 4499; // 44xx: the server will not have us, such as 4403 for a wrong token
}
