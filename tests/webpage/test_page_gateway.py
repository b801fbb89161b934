"""The page with a SageMaker endpoint: API Gateway's URL in the settings, the Lambda proxy, SageMaker's container code.

Only API Gateway is simulated: each request becomes an event in payload format 2.0, as in its documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aws.functions.lambda_runtime import Context, set_environment
from tests.aws.functions.test_events import v2
from tests.listening import listening
from tests.webpage.conftest import open_tab, page_in_front_of


@pytest.fixture
def gateway(local_endpoint, proxy, monkeypatch) -> Iterator[str]:
    """A URL on loopback that behaves like the URL output of a stack of spoter/aws/template.yaml."""
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


def test_the_page_gets_answers_of_a_sagemaker_endpoint(browser, gateway, samples):
    origin = gateway.removesuffix("/prod/invocations")
    with page_in_front_of(origin) as url, open_tab(browser, f"{url}/?endpoint={gateway}", allowed=(origin,)) as tab:
        tab.state("model", "known")
        assert "dgs11" in tab.page.inner_text("#model-name")
        tab.upload(samples / "hallo.json")
        assert (tab.glosses()[0], tab.verdict()) == ("HALLO", "true")
        assert {request for request in tab.requests if request.startswith(origin)} == {gateway}
