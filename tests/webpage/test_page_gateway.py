"""The page before a SageMaker endpoint: API Gateway's URL in its settings, the proxy, SageMaker's container code.

API Gateway alone is a double: it makes an event of payload format 2.0 of each request, as its documentation shows.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aws.functions.lambda_runtime import Context, set_environment
from tests.aws.functions.test_events import v2
from tests.listening import listening
from tests.webpage.conftest import page_before, watched


@pytest.fixture
def gateway(local_endpoint, proxy, monkeypatch) -> Iterator[str]:
    """The URL that a stack of spoter/aws/template.yaml tells, on loopback."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    set_environment(monkeypatch, local_endpoint.url)
    monkeypatch.setenv("SPOTER_ORIGINS", "*")

    async def invoke(request: Request) -> Response:
        event = v2(request.method, (await request.body()).decode(), headers=dict(request.headers))
        reply = await run_in_threadpool(proxy.handler, event, Context())
        return Response(reply.get("body", ""), reply["statusCode"], reply["headers"])

    app = Starlette(routes=[Route("/prod/invocations", invoke, methods=["POST", "OPTIONS"])])
    with listening(app) as url:
        yield f"{url}/prod/invocations"


def test_a_sagemaker_endpoint_answers_the_page(browser, gateway, samples):
    origin = gateway.removesuffix("/prod/invocations")
    with page_before(origin) as url, watched(browser, f"{url}/?endpoint={gateway}", allowed=(origin,)) as seen:
        seen.state("model", "known")
        assert "dgs11" in seen.page.inner_text("#model-name")
        seen.asked_about(samples / "hallo.json")
        assert (seen.glosses()[0], seen.verdict()) == ("HALLO", "true")
        assert {asked for asked in seen.requests if asked.startswith(origin)} == {gateway}
