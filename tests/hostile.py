"""Texts that try to be more than text, for pages that show what models and strangers wrote."""

from __future__ import annotations

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    '"><img src=x onerror="window.hacked = 3">',
    "'><svg onload=window.hacked=4>",
    "<!--<script>",
    "]]><iframe srcdoc='<script>parent.hacked=5</script>'>",
    "javascript:window.hacked=6",
    "{{ 7 * 7 }}{% raw %}${window.hacked=8}",
    "&lt;b&gt; &amp; &#60;script&#62;",
    "</title></style></textarea></pre></select><base href=//evil.example>",
    "a\u2028b\u2029c",
    "half \ud800 and \udfff characters",
    "nul \0 bell \a escape \x1b[31m del \x7f",
    "abc \u202e txt.exe \u2066 hidden \u200b",
    "x" * 20_000,
    "word " * 4_000,
    "\r\n\r\n\t  \r",
    "",
)
