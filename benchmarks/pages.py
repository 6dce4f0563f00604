"""
How soon the pages show their largest part, in Chromium on a processor that is slowed down.

Largest Contentful Paint (LCP) of the pages of a site that is served already, each in a fresh browser context,
without a cache; and the server's own time for moves of the map. Writes Markdown to stdout.

    ./manage.py load_scenario million_rooms --serve 8000
    python -m benchmarks.pages --url http://127.0.0.1:8000
"""

import argparse
import sys
import time
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Error, Page, sync_playwright

SLOWDOWN = 4
"""How many times slower the processor is made, as Lighthouse does for phones."""

BUDGET = 800
"""Milliseconds of LCP."""

WIDTHS = {"wide": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}

# Waits until the page is loaded and has been quiet for a moment: later paints would be larger ones.
LARGEST = """() => new Promise((resolve) => {
    new PerformanceObserver((list) => {
        const last = list.getEntries().at(-1);
        const { responseStart } = performance.getEntriesByType("navigation")[0];
        setTimeout(() => resolve([last.startTime, responseStart]), 500);
    }).observe({ type: "largest-contentful-paint", buffered: true });
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the site (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="visits of each page (default: %(default)s)")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="its program (default: %(default)s)")
    options = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        room = first_room(browser, options.url)
        paths = {
            "start": "/",
            "all rooms": "/rooms",
            "around Barcelona": "/rooms?near=2.159,41.3888&within=10400",
            "one room": room,
            "statistics": "/rooms/stats",
            "documentation": "/docs",
        }
        write(f"| page | window | LCP, ms | from … to | the first byte, ms | CPU time × {SLOWDOWN}, ms |")
        write("|---|---|--:|--:|--:|--:|")
        for name, path in paths.items():
            for window, viewport in WIDTHS.items():
                found = [visit(browser, options.url + path, viewport) for _ in range(options.rounds)]
                paints = sorted(paint for paint, _ in found)
                waited = median(first for _, first in found)
                cpu = median(cpu_time(browser, options.url, path, viewport) for _ in range(options.rounds))
                over = " (over)" if median(paints) > BUDGET else ""
                write(
                    f"| {name} | {window} | {median(paints):.0f}{over} | {paints[0]:.0f} to {paints[-1]:.0f}"
                    f" | {waited:.0f} | {SLOWDOWN * cpu:.0f} |"
                )
        times = map_moves(browser, options.url)
        browser.close()
    write(f"\n{len(times)} moves of the map: {median(times):.0f} ms each, {max(times):.0f} at most.")


def write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def first_room(browser: Browser, url: str) -> str:
    try:
        response = browser.new_context().request.get(f"{url}/rooms.json?near=2.159,41.3888&limit=1")
    except Error:
        sys.exit(f"{url} does not answer. Next: ./manage.py load_scenario million_rooms --serve 8000")
    return f"/rooms/{response.json()[0]['code']}"


def visit(browser: Browser, url: str, viewport: Any) -> tuple[float, float]:
    """LCP and the first byte, in milliseconds since the navigation began."""
    context = browser.new_context(viewport=viewport)
    page: Page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWDOWN})
    page.goto(url)
    paint, first = page.evaluate(LARGEST)
    context.close()
    return paint, first


def cpu_time(browser: Browser, url: str, path: str, viewport: Any) -> float:
    """
    Milliseconds of CPU time that the renderer takes for a page without its scripts, which come after the
    largest paint. It does not depend on what else the machine does.
    """
    context = browser.new_context(viewport=viewport, java_script_enabled=False)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable")

    def taken() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(1000 * one["value"] for one in metrics if one["name"] == "ProcessTime")

    page.goto(f"{url}/robots.txt")  # starts the renderer
    before = taken()
    page.goto(url + path)
    spent = taken() - before
    context.close()
    return spent


def map_moves(browser: Browser, url: str) -> list[float]:
    """Milliseconds until the response with the clusters of a map, from the world to a street."""
    request = browser.new_context().request
    times = []
    for zoom in range(2, 16):
        half = 360 / 2**zoom
        for across in (-1, 0, 1):
            west, south = max(2.159 + (across - 1) * half, -180), max(41.3888 - half, -90)
            box = f"{west:.5f},{south:.5f},{min(west + 2 * half, 180):.5f},{min(south + 2 * half, 90):.5f}"
            began = time.perf_counter()
            request.get(f"{url}/rooms/clusters?bbox={box}&zoom={zoom}")
            times.append(1000 * (time.perf_counter() - began))
    return times


if __name__ == "__main__":
    main()
