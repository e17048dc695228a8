"use strict";
// what the page holds compressed: the text of a block of base64
window.spaBench = Object.assign(window.spaBench ?? {}, {
  ready: null, // when answers could first be read, and charts seen: milliseconds from the start of the navigation
  drawn: null,
  async unpack(id) {
    // a large page is read while it is already used
    if (!document.getElementById(id) && document.readyState === "loading") {
      await new Promise((done) => { document.addEventListener("DOMContentLoaded", done, { once: true }); });
    }
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  },
});
