"""The thread in which schemas are compiled and long checks run, and the compiled schemas that were used last.

One thread: jsonschema-rs holds Python's global lock while it compiles, so more threads would only delay other work.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

from cachetools import LRUCache

from ringback.models.json_schema.schema import JsonSchema, load_schema

P = ParamSpec("P")
R = TypeVar("R")

#: Memory of a schema that counts as small, in bytes. Large ones have a cache of their own and cannot evict small ones.
_MAX_SMALL_BYTES = 2**20
#: Memory for the cached schemas, in bytes. A schema that exceeds it is compiled for each call that uses it.
_SMALL_CACHE_BYTES, _LARGE_CACHE_BYTES = 16 * 2**20, 24 * 2**20

_thread = ThreadPoolExecutor(1, "ringback-json-schema")
_small: LRUCache[str, JsonSchema] = LRUCache(_SMALL_CACHE_BYTES, lambda schema: schema.memory_bytes)
_large: LRUCache[str, JsonSchema] = LRUCache(_LARGE_CACHE_BYTES, lambda schema: schema.memory_bytes)
_cache_lock = Lock()
#: A lock for each line whose work runs or waits for the thread.
_lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


async def run_in_schema_thread(line: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that compiles schemas, or checks items or templates, in their thread. Lines take turns.

    A line is the text of a stored schema, or another name. Only one function of each waits for the thread, so that
    many calls for one schema delay those for others by one function only.
    """
    lock = _lines.setdefault(line, asyncio.Lock())
    async with lock:
        return await asyncio.get_running_loop().run_in_executor(_thread, partial(function, *args, **kwargs))


def find_compiled(text: str) -> JsonSchema | None:
    """Return the compiled schema of a stored text if it is cached."""
    with _cache_lock:
        return _small.get(text) or _large.get(text)


def compile_stored(text: str) -> JsonSchema:
    """Return the compiled schema of a stored text, cached. Raises SchemaFault. Call it in the schema thread."""
    schema = find_compiled(text)
    if schema is None:
        schema = load_schema(text)
        cache = _small if schema.memory_bytes <= _MAX_SMALL_BYTES else _large
        with _cache_lock:
            if schema.memory_bytes <= cache.maxsize:
                cache[text] = schema
    return schema
