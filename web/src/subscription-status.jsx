// The line below the response that says why a subscription has stopped, or that its connection is lost.

import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { withAfter } from "./live.js";

/** The status of each tab's subscription by the tab's id, and a stable function that reports of a run. */
export function useSubscriptionStatuses() {
  const [statuses, setStatuses] = useState({});
  const openTab = useRef(null);
  const watchRun = useRef(() => {
    const tab = openTab.current;
    return (status) => setStatuses((others) => ({ ...others, [tab]: status }));
  });
  return { statuses, openTab, watchRun: watchRun.current };
}

export function SubscriptionStatus({ statuses, openTab }) {
  const { responseEditor, variableEditor, tab } = useGraphiQL(({ responseEditor, variableEditor, tabs, activeTabIndex }) => ({
    responseEditor,
    variableEditor,
    tab: tabs[activeTabIndex]?.id,
  }));
  const { run, updateActiveTabValues } = useGraphiQLActions();
  const status = statuses[tab];

  useLayoutEffect(() => {
    openTab.current = tab;
  }, [openTab, tab]);

  // GraphiQL forgets what a subscription showed last when its tab was left.
  useEffect(() => {
    if (!status?.ended) return;
    const response = JSON.stringify(status.picture, null, 2);
    responseEditor?.setValue(response);
    updateActiveTabValues({ response });
  }, [tab, status, responseEditor, updateActiveTabValues]);

  function resume() {
    variableEditor.setValue(withAfter(variableEditor.getValue(), status.after));
    run();
  }

  return (
    <div className="subscription-status" role="status">
      {status && <p>{status.text}</p>}
      {status?.ended && status.after !== null && (
        <button type="button" onClick={resume}>
          Run from the cursor
        </button>
      )}
    </div>
  );
}
