"""/healthz and /readyz, for load balancers. Anybody can ask, so the answers name no reason: the log has it."""

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from tortoise.exceptions import BaseORMException

from ringback.graphql_api.context.single_flight import SingleFlight, wait_for_result
from ringback.models import delivery_log

logger = structlog.get_logger("ringback.api")

#: Seconds for which a check of the database counts, however many clients ask.
CHECK_SECONDS = 1.0


async def report_health(request: Request) -> Response:
    """Answer 200: the process is alive."""
    return PlainTextResponse("ok\n")


class Readiness:
    """Whether the database answers. Only changes are logged."""

    def __init__(self) -> None:
        self._checks: SingleFlight[None, bool] = SingleFlight(1, CHECK_SECONDS)
        self._is_ready = True

    async def report(self, request: Request) -> Response:
        """Answer 200 if the database answers, else 503."""
        if await wait_for_result(self._checks.run(None, self._check)):
            return PlainTextResponse("ok\n")
        return PlainTextResponse("not ready\n", 503)

    async def _check(self) -> bool:
        was_ready = self._is_ready
        try:
            await delivery_log.read_epoch()
        except BaseORMException as error:
            self._is_ready = False
            if was_ready:
                logger.warning("not ready: the database does not answer", action="readiness", reason=str(error))
        else:
            self._is_ready = True
            if not was_ready:
                logger.info("ready again: the database answers", action="readiness")
        return self._is_ready
