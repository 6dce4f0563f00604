"""
The pictures in docs/images, taken in Chromium on the scenario `demo`:

    make screenshots

`docs/screenshots.py FOLDER` puts them elsewhere. It loads a copy of the scenario, logs in, takes each picture
of PICTURES and drops the copy. CHROMIUM names another program than /usr/bin/chromium.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
COPY = "screenshots"
"""The name of the scenario's copy: what a developer did in `demo` is in no picture."""

SWITCHES = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
WIDTH = 1000
"""Pixels of a picture."""
LARGEST = 60_000
"""Bytes of a picture, at most."""
NO_BANNER = ".scenario-banner { display: none }"


@dataclass(frozen=True)
class Picture:
    """One picture: the page's address, and what is done there before it is taken."""

    path: str
    height: int
    """Pixels; what is below is cut off."""
    prepare: Callable[[Page], None] = lambda page: None


def fill_import(page: Page) -> None:
    """Upload three rows: a room that is there with another price, one as it is, a new one."""
    first, second = page.request.get("/rooms.csv?limit=2").text().splitlines()[1:3]
    code, size, price, *place = first.split(",")
    rows = [
        "code,size,price,latitude,longitude",
        ",".join([code, size, str(int(price) + 5), *place]),
        second,
        "f853578c-fc0f-4e65-81b8-566c5dffa35a,215,39,51.75436293,-0.09998975",
    ]
    file = FilePayload(name="rooms.csv", mimeType="text/csv", buffer="\n".join(rows).encode())
    page.set_input_files("input[name=import_file]", file)
    page.select_option("select[name=format]", label="csv")
    page.click("input[type=submit]")
    page.wait_for_selector("ins")


def open_first(page: Page) -> None:
    """Open the first room of the list, down from its place, and wait for its map."""
    page.click("#result_list tbody tr:first-child th a")
    page.wait_for_selector(".room-map .leaflet-container, .room-map.leaflet-container")
    page.wait_for_load_state("networkidle")
    page.evaluate("document.querySelector('fieldset.place').scrollIntoView()")


PICTURES = {
    "search.png": Picture("/rooms?filter_price__lte=66&order=price", 460),
    "admin.png": Picture("/admin/", 470),
    "admin-list.png": Picture("/admin/rooms/room/?price__lte=40&size__isnull=false", 460),
    "admin-form.png": Picture("/admin/rooms/room/", 640, open_first),
    "admin-import.png": Picture("/admin/rooms/room/import/", 430, fill_import),
}
"""By file name."""


def main(folder: Path) -> None:
    command = [sys.executable, "manage.py", "load_scenario", "demo", "--as", COPY, "--reset", "--serve", "0"]
    server = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        password, address = read_start(server)
        with sync_playwright() as driver:
            program = os.environ.get("CHROMIUM", "/usr/bin/chromium")
            browser = driver.chromium.launch(executable_path=program, args=SWITCHES.split())
            take_all(browser, address, password, folder)
            browser.close()
    finally:
        server.terminate()
        server.wait()
        subprocess.run([sys.executable, "manage.py", "drop_scenario", COPY], cwd=PROJECT, check=False)


def read_start(server: "subprocess.Popen[str]") -> tuple[str, str]:
    """The password of the scenario's staff and the site's address, as load_scenario prints them."""
    password = ""
    for line in server.stdout or ():
        if found := re.match(r"Staff: demo, password (\S+)", line):
            password = found[1]
        if found := re.match(r"Admin: (http://\S+)/admin/", line):
            return password, found[1]
    sys.exit("screenshots: the site did not start, see above")


def take_all(browser: Browser, address: str, password: str, folder: Path) -> None:
    """Log in, and take each picture."""
    context = browser.new_context(
        base_url=address,
        viewport={"width": WIDTH, "height": 720},
        locale="en-GB",
        timezone_id="UTC",
        bypass_csp=True,  # or the style that hides the banner is refused
    )
    page = context.new_page()
    page.goto("/admin/login/")
    page.fill("#id_username", "demo")
    page.fill("#id_password", password)
    page.click("input[type=submit]")
    for name, picture in PICTURES.items():
        page.set_viewport_size({"width": WIDTH, "height": picture.height})
        page.goto(picture.path)
        picture.prepare(page)
        page.screenshot(path=folder / name, animations="disabled", style=NO_BANNER)
        size = (folder / name).stat().st_size
        sys.stdout.write(f"{name}: {size:,} bytes\n")
        if size > LARGEST:
            sys.exit(
                f"screenshots: {name} has more than {LARGEST:,} bytes. Next: a smaller height in PICTURES"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "docs" / "images")
