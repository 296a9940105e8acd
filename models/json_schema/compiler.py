"""The thread in which schemas are compiled and long checks run, and the compiled schemas that were used last.

One thread: jsonschema-rs holds Python's global lock while it compiles, so more threads would only delay other work.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar

from cachetools import LRUCache

from ringback.models.json_schema.schema import JsonSchema, load_schema

P = ParamSpec("P")
R = TypeVar("R")

#: Memory for the cached schemas, in bytes. A larger schema is compiled for each call that uses it.
_CACHE_BYTES = 32 * 2**20

_thread = ThreadPoolExecutor(1, "ringback-json-schema")
_cache: LRUCache[str, JsonSchema] = LRUCache(_CACHE_BYTES, lambda schema: schema.memory_bytes)
_cache_lock = Lock()


async def run_in_schema_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that compiles schemas or checks items in their thread, after those that wait for it."""
    return await asyncio.get_running_loop().run_in_executor(_thread, partial(function, *args, **kwargs))


def find_compiled(text: str) -> JsonSchema | None:
    """Return the compiled schema of a stored text if it is cached."""
    with _cache_lock:
        return _cache.get(text)


def compile_stored(text: str) -> JsonSchema:
    """Return the compiled schema of a stored text, cached. Raises SchemaFault. Call it in the schema thread."""
    schema = find_compiled(text)
    if schema is None:
        schema = load_schema(text)
        with _cache_lock:
            if schema.memory_bytes <= _CACHE_BYTES:
                _cache[text] = schema
    return schema
