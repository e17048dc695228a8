"""What mkdocs does beyond its plugins: files of the repository behind links, pictures in the page, scripts of this machine.

A page may link to any file of the repository. The site has no repository behind it, so each such file becomes a part of the
site: pages and pictures as they are, everything else as a page that shows its text.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

import jupytext
import nbformat
import pymdownx.superfences
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import npm

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
CODE = re.compile(r"(^```.*?^```$|^~~~.*?^~~~$)", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^!\[([^\]]*)\]\(([^)\s]*pictures/[\w-]+\.svg)\)$", re.MULTILINE)
RENDERED = {".html", ".svg", ".png"}
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".sh": "sh", ".md": "markdown"}
SHELF = "repository"  # the folder of the site that holds files from outside docs/
MERMAID, WORKER = npm.SCRIPTS


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the scripts that are here. The theme must not miss them: it would fetch them from elsewhere."""
    here = {uri: script for uri, script in npm.SCRIPTS.items() if script.place.exists()}
    config.extra["here"] = {uri: str(script.place) for uri, script in here.items()}
    if MERMAID in here:
        config.extra_javascript.append(MERMAID)
        fence = {"name": "mermaid", "class": "mermaid", "format": pymdownx.superfences.fence_code_format}
        config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    else:
        print("docs: Mermaid is not here, so diagrams stay text", file=sys.stderr)
    if WORKER in here:
        config.extra["polyfills"] = [WORKER]
    return config


def on_post_build(config: MkDocsConfig) -> None:
    """Puts the search's index into a script too, which a page that is opened as a file can read."""
    index = Path(config.site_dir, "search", "search_index.json")
    if index.exists():
        index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')}", encoding="utf-8")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the scripts, the notebooks of the tutorials, and the files outside docs/ that pages link to."""
    for uri, place in config.extra["here"].items():
        files.append(File.generated(config, uri, abs_src_path=place))
    for page in list(files.documentation_pages()):
        text = page.content_string
        if page.src_uri.startswith("tutorials/") and "jupytext:" in text:
            notebook = page.src_uri.removesuffix(".md") + ".ipynb"
            files.append(File.generated(config, notebook, content=as_notebook(text)))
        for target in outside(text, page.src_uri):
            for added in shelved(config, target):
                if files.get_file_from_path(added.src_uri) is None:
                    files.append(added)
    return files


def as_notebook(text: str) -> str:
    """The notebook of a tutorial; its bash blocks are cells that begin with %%bash."""
    return nbformat.writes(jupytext.reads(text, fmt="md"))


def outside(text: str, page: str) -> list[str]:
    """The files outside docs/, relative to the repository, to which the page at `page` (relative to docs/) links."""
    found = []
    for part in CODE.split(text)[::2]:
        for match in LINK.finditer(part):
            if (target := beyond(match[2], page)) is not None:
                found.append(target)
    return found


def beyond(link: str, page: str) -> str | None:
    """The file outside the pages that `link` means, relative to the repository; None for a page, an anchor or another host."""
    if re.match(r"[a-z]+:", link) or not link:
        return None
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    inside = path.startswith("docs/") and not path.startswith("docs/examples")
    return None if inside else path


def shelved(config: MkDocsConfig, path: str) -> list[File]:
    """The files of the site for a file or folder of the repository."""
    place = ROOT / path
    if place.is_dir():
        listing = "\n".join(f"- `{child.name}`" for child in sorted(place.iterdir()) if child.name[0] not in "._")
        return [_generated(config, f"{SHELF}/{path}.md", f"# {path}\n\n{listing}\n")]
    if path.startswith("leaderboards/"):  # its pages link to each other
        names = sorted(p for p in (ROOT / "leaderboards").rglob("*") if p.suffix in RENDERED)
        return [File.generated(config, f"{SHELF}/{p.relative_to(ROOT)}", abs_src_path=str(p)) for p in names]
    if place.suffix in RENDERED:
        return [File.generated(config, f"{SHELF}/{path}", abs_src_path=str(place))]
    text = place.read_text(encoding="utf-8")
    fence = "`" * max(4, max(map(len, re.findall(r"`+", text)), default=0) + 1)
    language = LANGUAGES.get(place.suffix, "text")
    return [_generated(config, f"{SHELF}/{path}.md", f"# {path}\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n")]


def _generated(config: MkDocsConfig, uri: str, content: str) -> File:
    return File.generated(config, uri, content=content, inclusion=InclusionLevel.NOT_IN_NAV)


def shelf_of(path: str) -> str:
    """Where the site has a file of the repository, relative to docs/."""
    if path.startswith("leaderboards/") and path.endswith(".md"):
        return f"{SHELF}/leaderboards/pages/{posixpath.basename(path).removesuffix('.md')}.html"
    return f"{SHELF}/{path}" if Path(path).suffix in RENDERED else f"{SHELF}/{path}.md"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files outside docs/ lead to their copies; pictures are put into the page, so that they take its colours."""
    source = page.file.src_uri
    if source.startswith(f"{SHELF}/"):
        return markdown
    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(lambda match: _moved(match, source), part) for part in parts[::2]]
    text = "".join(parts)
    if source.startswith("tutorials/") and files.get_file_from_path(source.removesuffix(".md") + ".ipynb"):
        name = posixpath.basename(source).removesuffix(".md")
        text = re.sub(
            r"(^# .+$)", rf"\1\n\n[Download this page as a notebook]({name}.ipynb)", text, count=1, flags=re.MULTILINE
        )
    return PICTURE.sub(lambda match: _drawn(match, source), text)


def _moved(match: re.Match[str], source: str) -> str:
    path = beyond(match[2], source)
    if path is None:
        return match[0]
    target = posixpath.relpath(shelf_of(path), posixpath.dirname(source) or ".")
    return f"{match[1]}{target}{match[3]}"


def _drawn(match: re.Match[str], source: str) -> str:
    place = ROOT / "docs" / posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
    svg = place.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    label = match[1].replace('"', "&quot;")
    return f'<figure class="picture" role="img" aria-label="{label}">{svg}<figcaption>{match[1]}</figcaption></figure>\n'
