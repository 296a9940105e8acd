// The live log without a gap and without a repetition, whatever happens to the connection.

import { type ApolloClient, CombinedGraphQLErrors } from "@apollo/client";
import { type Observable, concatMap, defer, repeat, retry, throwError, timer } from "rxjs";
import { DeliveryLogDocument, type DeliveryLogFilter, type DeliveryLogSubscription } from "./generated.js";

export type LogEntry = NonNullable<DeliveryLogSubscription["deliveryLog"]>;

/** The log behind `after`, or from now on; cut short, it goes on behind the last cursor. */
export function follow(client: ApolloClient, filter: DeliveryLogFilter, after?: string): Observable<LogEntry> {
  return defer(() => client.subscribe({ query: DeliveryLogDocument, variables: { filter, after } })).pipe(
    concatMap(({ data, error }) => {
      if (error) throw error;
      if (!data?.deliveryLog) return [];
      after = data.deliveryLog.cursor;
      return [data.deliveryLog];
    }),
    retry({ delay: (error: Error) => (isPassing(error) ? timer(500) : throwError(() => error)) }),
    repeat({ delay: 500 }),
  );
}

/** Whether going on from the last cursor helps: the connection was lost, or we were too slow for the server. */
function isPassing(error: Error): boolean {
  if (CombinedGraphQLErrors.is(error)) {
    return error.errors.some(({ extensions }) => extensions?.["code"] === "CURSOR_BEHIND");
  }
  // 44xx: the server will not have us, such as 4403 for a wrong token.
  return !error.message.startsWith("Socket closed with event 44");
}
