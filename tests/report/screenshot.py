#!/usr/bin/env python3
"""Opens pages of `edge-convert report` in headless Chromium: no console error, no sideways scrolling, pictures to look at.

    tests/report/screenshot.py --out shots report.html [more.html ...]

Each page is opened at 360 and 1280 pixels, light and dark, with and without scripts; with them another rung is chosen and a point is
focused. Chromium is Debian's (`apt-get install chromium`), driven by `playwright` from PyPI in an environment of this script's own.
Exits with 0 when all is well or the machine can have no browser (it says so), else with 1.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import venv

HOME = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "edge-report-venv"
PLAYWRIGHT = "playwright==1.65.2"
WIDTHS = (360, 1280)
# What lies past the right edge and in no box that scrolls by itself.
PAST_THE_EDGE = """() => {
  const width = document.documentElement.clientWidth;
  const boxed = (e) => e && (getComputedStyle(e).overflowX !== 'visible' || boxed(e.parentElement));
  const all = [...document.querySelectorAll('body *')];
  const past = all.filter((e) => e.getBoundingClientRect().right > width + 1 && !boxed(e.parentElement));
  return past.map((e) => e.outerHTML.slice(0, 100));
}"""


def environment():
    """The interpreter of an environment with playwright."""
    python = HOME / "bin" / "python"
    if not python.exists():
        venv.create(HOME, with_pip=True)
    wanted = f"import playwright._repo_version as v, sys; sys.exit(v.version != '{PLAYWRIGHT.split('==')[1]}')"
    if subprocess.run([python, "-c", wanted], stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "--quiet", PLAYWRIGHT], check=True)
    return python


def browser():
    """The path of a Chromium, installed if need be; None when there is none to be had."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"], check=False)
        found = shutil.which("chromium")
    return found


def look(page, errors, name, out):
    """Checks one open page and takes its picture."""
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        errors.append(f"{name}: {overflow} pixels too wide")
    errors.extend(f"{name}: past the edge: {e}" for e in page.evaluate(PAST_THE_EDGE))
    page.screenshot(path=str(out / f"{name}.png"), full_page=True)


def use(page, errors, name):
    """Chooses another rung and focuses a point, as a reader would."""
    rungs = page.locator("#rung option").count()
    before = page.locator("#summary").inner_text()
    if rungs > 1:
        other = 0 if page.locator("#rung").input_value() != "0" else 1
        page.select_option("#rung", str(other))
        if page.locator("#summary").inner_text() == before:
            errors.append(f"{name}: another rung shows the same")
    page.evaluate("document.querySelectorAll('details').forEach((d, i) => { d.open = i < 4; })")
    marks = page.locator(".plot").first.locator(".mark")
    if marks.count():
        marks.first.focus()
        page.keyboard.press("ArrowRight")
        focused = page.locator(".mark:focus")
        if not focused.locator(".label").is_visible():
            errors.append(f"{name}: a focused point has no label")
        focused.press("Enter")
        if focused.get_attribute("data-show") != page.locator("#rung").input_value():
            errors.append(f"{name}: a chosen point is not shown")


def check(chromium, file, out):
    """All that is wrong with a page."""
    from playwright.sync_api import sync_playwright

    errors = []
    with sync_playwright() as p:
        engine = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                for scripts in (True, False):
                    name = f"{file.stem}-{width}-{scheme}" + ("" if scripts else "-plain")
                    context = engine.new_context(
                        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts
                    )
                    page = context.new_page()
                    page.on("console", lambda m: m.type in ("error", "warning") and errors.append(f"{name}: {m.text}"))
                    page.on("pageerror", lambda e: errors.append(f"{name}: {e}"))
                    page.on("request", lambda r: r.url.startswith("http") and errors.append(f"{name}: asks for {r.url}"))
                    page.on("dialog", lambda d: (errors.append(f"{name}: a dialog"), d.dismiss()))
                    page.goto(file.resolve().as_uri())
                    look(page, errors, name, out)
                    if scripts:
                        use(page, errors, name)
                        look(page, errors, f"{name}-used", out)
                    context.close()
        engine.close()
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the pictures")
    args = parser.parse_args()
    if pathlib.Path(sys.prefix) != HOME:
        try:
            python = environment()
        except subprocess.CalledProcessError:
            print("skipped: playwright cannot be installed here")
            return 0
        return subprocess.run([python, __file__, *sys.argv[1:]]).returncode
    chromium = browser()
    if chromium is None:
        print("skipped: no Chromium, and none can be installed here")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    errors = [error for file in args.pages for error in check(chromium, file, args.out)]
    print("\n".join(errors) or f"{len(args.pages)} pages are well; pictures in {args.out}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
