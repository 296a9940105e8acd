"""The executor: graphql-core's own, with a shorter way for what is only looked up (graphql_api.execution.selections).

What lies behind edges is fetched for all objects of a page before they are read, and an object is read at once where no
resolver is needed below it. Everything else takes graphql-core's way, and so does whatever is not as it should be: the
shorter way knows no errors, and where it meets one, graphql-core goes over the same ground and reports it.
"""

from contextlib import suppress
from typing import Any

from graphql import Executor, GraphQLObjectType, GraphQLResolveInfo
from graphql.execution.collect_fields import FieldDetailsList
from graphql.pyutils import Path

from ringback.graphql_api.context.request_context import Context
from ringback.graphql_api.execution.selections import Kept, Selection, Selections


class FastExecutor(Executor[Context]):
    """Executes one operation, or all that happens in one subscription."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Shared by the copies that execute a subscription's events. So is graphql-core's memory of what is selected,
        # which would grow with each event if it were not asked about the same root fields every time.
        self._selections = Selections(self.collect_subfields)
        self._roots: list[Any] = []

    def keep_selections(self, kept: Kept) -> None:
        """Use what former executions of the same operation made, where no variable decides what is selected."""
        self._selections.kept = kept

    def execute_collected_root_fields(self, root_type: Any, root_value: Any, grouped_field_set: Any, *rest: Any) -> Any:
        """Go on with the root fields as they were collected first."""
        if not self._roots:
            self._roots.append(grouped_field_set)
        return super().execute_collected_root_fields(root_type, root_value, self._roots[0], *rest)

    def execute_fields_serially(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Path | None,
        grouped_field_set: Any,
        position_context: Any,
    ) -> Any:
        """A mutation of one field, as most are, waits for nothing but that."""
        if len(grouped_field_set) == 1 and self.abort_signal is None:
            return self.execute_fields(parent_type, source_value, path, grouped_field_set, position_context)
        return super().execute_fields_serially(parent_type, source_value, path, grouped_field_set, position_context)

    def complete_object_value(
        self,
        return_type: GraphQLObjectType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Context],
        *rest: Any,
    ) -> Any:
        """Fetch first what lies behind the edges of an object that a resolver returned, and of what it leads to.

        For an object that was only looked up, that was done with the one it belongs to.
        """
        selection = self._selections.below(return_type, field_details_list)
        if selection.fetches and self._selections.field(info.parent_type, field_details_list) is None:
            return self._fetch_and_complete(selection, return_type, field_details_list, info, *rest)
        return super().complete_object_value(return_type, field_details_list, info, *rest)

    async def _fetch_and_complete(self, selection: Selection, *arguments: Any) -> Any:
        _, _, _, _, found, _ = arguments
        with suppress(Exception):  # each field fetches for itself then, and fails for itself
            await selection.fetch([found], self.context_value.loaders)
        completed = super().complete_object_value(*arguments)
        return await completed if self.is_awaitable(completed) else completed

    def collect_and_execute_subfields(
        self, return_type: GraphQLObjectType, field_details_list: FieldDetailsList, path: Path, result: Any, *rest: Any
    ) -> Any:
        """Read an object at once."""
        read = self._selections.below(return_type, field_details_list).read
        if read is not None:
            with suppress(Exception):
                return read(result)
        return super().collect_and_execute_subfields(return_type, field_details_list, path, result, *rest)

    def execute_field(
        self, parent_type: GraphQLObjectType, source: Any, field_details_list: FieldDetailsList, *rest: Any
    ) -> Any:
        """Read a field at once."""
        field = self._selections.field(parent_type, field_details_list)
        if field is not None and field.read is not None:
            with suppress(Exception):
                return field.read(source)
        return super().execute_field(parent_type, source, field_details_list, *rest)
