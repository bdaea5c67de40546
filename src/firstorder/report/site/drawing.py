"""The part of the front page about the page that one draws for, which `make demo` writes into the site's folder.

Whichever of the two is made last, this part has a link where the page is there, and else says how to make it.
"""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import Markup

from firstorder.files import replacing
from firstorder.report.site import writer
from firstorder.report.text.templating import environment

_PART = re.compile(r"<!-- demo -->.*?<!-- end of demo -->\n", re.DOTALL)  # as the template marks it


def part(site: Path) -> Markup:
    """Return the part for the front page of the site in a folder."""
    template = environment(writer.TEMPLATES).get_template("demo.html.j2")
    return Markup(template.render(page=f"{writer.DEMO}/{writer.FRONT}" if writer.has_demo(site) else ""))


def link_from(site: Path) -> Path | None:
    """Write the part anew into the front page of the site in a folder, and return that page; None without a site."""
    if not writer.is_site(site):
        return None
    front = site / writer.FRONT
    new = part(site)
    text = _PART.sub(lambda _: new, writer.SITE_FILE.read_text(front))
    with replacing(front) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return front
