"""`@openai/agents` in Chromium against a real server: the key comes in a subprotocol."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from tests.openai_wire.conftest import NODE
from tests.openai_wire.realtime_peer import spoken
from tests.server.peers import serving

HERE = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
SWITCHES = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking"


@pytest.fixture(scope="module")
def bundle(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The client as one script."""
    out = tmp_path_factory.mktemp("bundle") / "agents.js"
    command = [node_modules / ".bin" / "esbuild", NODE / "agents.js", "--bundle", "--format=iife", f"--outfile={out}"]
    subprocess.run([*map(str, command), "--log-level=error"], check=True)
    return out.read_text()


async def test_a_page_with_the_agents_package_asks_about_audio(bundle: str) -> None:
    async with serving(tokens=("ek_secret",)) as service, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES.split())
        page = await browser.new_page(bypass_csp=True)  # of the service's own origin, with another script
        await page.goto(service.address)
        await page.add_script_tag(content=bundle)
        url = f"ws{service.address.removeprefix('http')}/v1/realtime"
        pcm = base64.b64encode(spoken(pause_s=0)).decode()
        told = await page.evaluate("([url, key, pcm]) => converse(url, key, pcm)", [url, "ek_secret", pcm])
        await browser.close()
    assert told["errors"] == []
    assert told["transcript"].startswith("word1 word2")
    assert told["status"] == "completed" and told["answer"].startswith("Who is this? <- [Be short.] | ")
    assert ["user", ["Who is this?"]] in told["history"]
    assert ["assistant", [told["answer"]]] in told["history"]
