"""The executor: graphql-core's, with a fast path for fields without resolvers (graphql_api.execution.selections).

The fast path loads the rows behind a page's loaded fields in one batch per loader, then reads each object by one
function if no field below it needs a resolver. It reports no errors: if it raises, graphql-core executes the same
fields and reports them.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from graphql import Executor, GraphQLLeafType, GraphQLObjectType, GraphQLResolveInfo
from graphql.execution.collect_fields import FieldDetailsList
from graphql.execution.values import VariableValues
from graphql.pyutils import Path

from ringback.graphql_api.context.request_context import Context
from ringback.graphql_api.execution.byte_budget import (
    ResponseTooLarge,
    count_fields,
    count_json,
    count_text,
    may_start_field,
    out_of_time,
)
from ringback.graphql_api.execution.query_shape import INTROSPECTION_COST
from ringback.graphql_api.execution.selections import Selection, Selections


class _SuppressFaults(suppress):
    """A context manager that suppresses faults, which graphql-core reports later, but not an exhausted budget."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return super().__exit__(kind, error, traceback) and not isinstance(error, ResponseTooLarge)


_FAULTS = _SuppressFaults(Exception)


class FastExecutor(Executor[Context]):
    """An executor of one operation, or of all events of one subscription."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Shared by the copies that execute a subscription's events, as is graphql-core's cache of collected fields.
        # That cache is keyed by identity and would grow with each event, so all events use the first root fields.
        self.selections = Selections(self.collect_subfields)
        self._root_fields: list[Any] = []
        #: Runs a function apart from the event loop, which introspection would hold for up to 0.2 s. None: on the loop.
        self.run_in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None

    def forget_values(self) -> None:
        """Free variables and loaded rows after the execution. An executor refers to itself, so it is freed much later.

        Call it only if the loaders are the executor's own.
        """
        self.variable_values = VariableValues({}, {})
        self.context_value.loaders.clear()

    def execute_collected_root_fields(self, root_type: Any, root_value: Any, grouped_field_set: Any, *rest: Any) -> Any:
        """Execute the root fields as collected for the first event."""
        if not self._root_fields:
            self._root_fields.append(grouped_field_set)
        return super().execute_collected_root_fields(root_type, root_value, self._root_fields[0], *rest)

    def execute_fields_serially(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Path | None,
        grouped_field_set: Any,
        position_context: Any,
    ) -> Any:
        """Execute a mutation. One with a single field, as most are, needs no serial execution."""
        if len(grouped_field_set) == 1 and self.abort_signal is None:
            return self.execute_fields(parent_type, source_value, path, grouped_field_set, position_context)
        return self._execute_one_by_one(parent_type, source_value, path, grouped_field_set, position_context)

    async def _execute_one_by_one(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Path | None,
        grouped_field_set: Any,
        position_context: Any,
    ) -> dict[str, Any]:
        """Execute the fields of a mutation. Others that wait get its turn in between, or it ends early."""
        results: dict[str, Any] = {}
        is_ended = False
        for name, details in grouped_field_set.items():
            if results and not is_ended:
                is_ended = not await may_start_field()
            if is_ended:
                results[name] = None
                field = self.schema.get_field(parent_type, details[0].node.name.value)
                assert field is not None, "the document is valid"
                self.handle_field_error(out_of_time(), field.type, details, Path(path, name, parent_type.name))
                continue
            fields = self.execute_fields(parent_type, source_value, path, {name: details}, position_context)
            if not isinstance(fields, dict):
                fields = await fields
            results.update(fields)
        return results

    def complete_object_value(
        self,
        return_type: GraphQLObjectType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Context],
        *rest: Any,
    ) -> Any:
        """Complete an object, after loading its loaded fields if a resolver returned it.

        The loaded fields of other objects were loaded with their parent's.
        """
        selection = self.selections.below(return_type, field_details_list)
        if selection.has_loaded_fields and self.selections.field(info.parent_type, field_details_list) is None:
            return self._load_and_complete(selection, return_type, field_details_list, info, *rest)
        return super().complete_object_value(return_type, field_details_list, info, *rest)

    async def _load_and_complete(self, selection: Selection, *arguments: Any) -> Any:
        _, _, _, _, result, _ = arguments
        with _FAULTS:  # then each field loads its own value and reports its own error
            await selection.load([result], self.context_value.loaders)
        completed = super().complete_object_value(*arguments)
        if self.is_awaitable(completed):
            return await completed
        return completed

    def collect_and_execute_subfields(
        self, return_type: GraphQLObjectType, field_details_list: FieldDetailsList, path: Path, result: Any, *rest: Any
    ) -> Any:
        """Read an object by its reader, if it has one that succeeds."""
        selection = self.selections.below(return_type, field_details_list)
        count_fields(selection.width)
        if selection.read is not None:
            with _FAULTS:
                return selection.read(result)
        return super().collect_and_execute_subfields(return_type, field_details_list, path, result, *rest)

    def execute_field(
        self, parent_type: GraphQLObjectType, source: Any, field_details_list: FieldDetailsList, *rest: Any
    ) -> Any:
        """Read a field by its reader, if it has one that succeeds. Introspect in a thread."""
        field = self.selections.field(parent_type, field_details_list)
        if field is not None and field.read is not None:
            with _FAULTS:
                return field.read(source)
        if self.run_in_thread is not None and field_details_list[0].node.name.value in INTROSPECTION_COST:
            return self.run_in_thread(partial(super().execute_field, parent_type, source, field_details_list, *rest))
        return super().execute_field(parent_type, source, field_details_list, *rest)

    @staticmethod
    def complete_leaf_value(return_type: GraphQLLeafType, result: Any) -> Any:
        """Complete a leaf value and count it."""
        value = Executor.complete_leaf_value(return_type, result)
        if type(value) is str:
            count_text(value)
        elif isinstance(value, dict | list):
            count_json(value)
        return value
