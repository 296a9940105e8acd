// GraphiQL with ready tabs and Ringback's name. It has no header editor, so no token can end up in its storage
// or history by accident.

import { GraphiQL } from "graphiql";
import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useEffect, useMemo } from "react";
import { createFetcher } from "./api.js";
import { lastTab, storage } from "./storage.js";
import { SubscriptionStatus, useSubscriptionStatuses } from "./subscription-status.jsx";
import { KeepTabInView } from "./tab-strip.jsx";
import { tabs } from "./tabs.js";
import { Wordmark } from "./wordmark.jsx";
import "./workers.js";
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";

// JSON schemas that the variables editor uses for custom scalars.
const SCALARS = { JSON: { type: ["object", "array", "string", "number", "boolean"] } };

// The editor reports cancelled computations when it is unmounted; they are not errors.
addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name === "Canceled") event.preventDefault();
});

export default function Explorer({ token, owner, onRefused, onLeave }) {
  const { statuses, openTab, watchRun } = useSubscriptionStatuses();
  const fetcher = useMemo(() => createFetcher(token, onRefused, watchRun), [token, onRefused, watchRun]);
  // Without this, GraphiQL loses the variables of tabs that were never edited.
  const first = useMemo(() => lastTab() ?? tabs[0], []);

  return (
    <GraphiQL
      fetcher={fetcher}
      storage={storage}
      defaultTabs={tabs}
      initialQuery={first.query ?? ""}
      initialVariables={first.variables ?? ""}
      defaultEditorToolsVisibility="variables"
      isHeadersEditorEnabled={false}
      shouldPersistHeaders={false}
      showPersistHeadersSettings={false}
      customScalarSchemas={SCALARS}
      inputValueDeprecation
      schemaDescription
    >
      <GraphiQL.Logo>
        <span className="corner">
          <FollowSystemTheme />
          <WrapLines />
          <StopOnLeave />
          <KeepTabInView />
          <button type="button" className="leave" title={owner ? `${owner.name} (${owner.role})` : undefined} onClick={onLeave}>
            Change token
          </button>
          <Wordmark />
        </span>
      </GraphiQL.Logo>
      <GraphiQL.Footer>
        <SubscriptionStatus statuses={statuses} openTab={openTab} />
      </GraphiQL.Footer>
    </GraphiQL>
  );
}

// CSS adapts the page's colours to the system; GraphiQL sets those of the editor only at its start.
function FollowSystemTheme() {
  const { setTheme } = useGraphiQLActions();
  const theme = useGraphiQL((state) => state.theme);
  useEffect(() => {
    if (theme !== null) return undefined;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => setTheme(null);
    system.addEventListener("change", follow);
    return () => system.removeEventListener("change", follow);
  }, [theme, setTheme]);
  return null;
}

// Templates and URLs are long, and the editors are narrow.
function WrapLines() {
  const { queryEditor, variableEditor } = useGraphiQL(({ queryEditor, variableEditor }) => ({ queryEditor, variableEditor }));
  useEffect(() => {
    for (const editor of [queryEditor, variableEditor]) editor?.updateOptions({ wordWrap: "on" });
  }, [queryEditor, variableEditor]);
  return null;
}

// A running subscription keeps the token with which it was started.
function StopOnLeave() {
  const { stop } = useGraphiQLActions();
  useEffect(() => stop, [stop]);
  return null;
}
