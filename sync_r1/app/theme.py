"""How the studio looks: the system's own fonts, enough contrast in light and dark, room on a phone."""

from __future__ import annotations

import gradio as gr

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "monospace")

COLOURS = {
    "body_background_fill": "*neutral_50",
    "body_background_fill_dark": "*neutral_950",
    "body_text_color": "*neutral_900",
    "body_text_color_dark": "*neutral_100",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_background_fill": "white",
    "block_background_fill_dark": "*neutral_900",
    "block_border_width": "1px",
    "block_border_color": "*neutral_200",
    "block_border_color_dark": "*neutral_700",
    "block_label_text_color": "*neutral_700",
    "block_label_text_color_dark": "*neutral_200",
    "block_title_text_color": "*neutral_800",
    "block_title_text_color_dark": "*neutral_100",
    "block_title_text_weight": "600",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "block_label_background_fill": "*neutral_100",
    "block_label_background_fill_dark": "*neutral_800",
    "input_background_fill": "white",
    "input_background_fill_dark": "*neutral_800",
    "input_border_width": "1px",
    "input_border_color": "*neutral_400",
    "input_border_color_dark": "*neutral_500",
    "input_placeholder_color": "*neutral_500",
    "input_placeholder_color_dark": "*neutral_400",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_800",
    "button_primary_text_color": "white",
    "button_primary_text_color_dark": "white",
    "button_secondary_background_fill": "*neutral_200",
    "button_secondary_background_fill_hover": "*neutral_300",
    "button_secondary_background_fill_dark": "*neutral_700",
    "button_secondary_background_fill_hover_dark": "*neutral_600",
    "button_secondary_text_color": "*neutral_900",
    "button_secondary_text_color_dark": "*neutral_50",
    "button_cancel_background_fill": "*neutral_200",
    "button_cancel_background_fill_dark": "*neutral_700",
    "button_cancel_text_color": "#991b1b",
    "button_cancel_text_color_dark": "#fecaca",
    "link_text_color": "*primary_800",
    "link_text_color_dark": "*primary_300",
    "link_text_color_hover": "*primary_900",
    "link_text_color_hover_dark": "*primary_200",
    "link_text_color_visited": "*primary_800",
    "link_text_color_visited_dark": "*primary_300",
    "checkbox_label_text_color": "*neutral_800",
    "checkbox_label_text_color_dark": "*neutral_100",
    "slider_color": "*primary_700",
    "slider_color_dark": "*primary_400",
    "shadow_drop": "none",
    "shadow_drop_lg": "none",
}


def theme() -> gr.themes.Base:
    """Gradio's plain theme with colours that can be read."""
    plain = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=list(FONT),
        font_mono=list(MONO),
    )
    return plain.set(**COLOURS)


CSS = """
.gradio-container { width: 100% !important; max-width: 70rem !important; min-width: 0 !important;
  margin: 0 auto !important; padding: 0 1rem 3rem !important; }
.gradio-container .html-container { padding: 0 !important; }
.gradio-container .gap, .gradio-container .column { gap: .75rem; }
.gradio-container footer, .nav-holder { display: none !important; }
.studio-top h1 { font-size: 1.75rem; font-weight: 700; margin: 1rem 0 .25rem; color: var(--body-text-color); }
.studio-top p { color: var(--body-text-color-subdued); margin: 0 0 .5rem; max-width: 46rem; }
.studio-nav { display: flex; flex-wrap: wrap; gap: .25rem; padding: .5rem 0; border-bottom: 1px solid
  var(--block-border-color); }
.gradio-container .studio-nav a { padding: .5rem .75rem; border-radius: .5rem; text-decoration: none;
  white-space: nowrap;  color: var(--body-text-color) !important; font-weight: 500; }
.gradio-container .studio-nav a:hover { background: var(--button-secondary-background-fill); }
.gradio-container .studio-nav a[aria-current] { background: var(--button-primary-background-fill);
  color: white !important; }
.studio-nav a:focus-visible, button:focus-visible { outline: 3px solid var(--primary-500); outline-offset: 2px; }
.problem { padding: .5rem .75rem; border-radius: .5rem; border: 1px solid #b91c1c; background: #fef2f2;
  color: #7f1d1d; }
.dark .problem { background: #450a0a; color: #fecaca; border-color: #f87171; }
.note { padding: .5rem .75rem; border-radius: .5rem; border: 1px solid #a16207; background: #fefce8; color: #713f12; }
.dark .note { background: #422006; color: #fef08a; border-color: #ca8a04; }
.good { padding: .5rem .75rem; border-radius: .5rem; border: 1px solid #15803d; background: #f0fdf4; color: #14532d; }
.dark .good { background: #052e16; color: #bbf7d0; border-color: #22c55e; }
.empty { padding: 1.5rem; border-radius: .75rem; border: 2px dashed var(--input-border-color); text-align: center; }
.empty p { margin: 0 0 .75rem; color: var(--body-text-color); }
.next { display: inline-block; padding: .5rem 1rem; border-radius: .5rem; text-decoration: none !important;
  background: var(--button-primary-background-fill); color: white !important; font-weight: 600; margin: .25rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem; }
.card { border: 1px solid var(--block-border-color); border-radius: .75rem; overflow: hidden;
  background: var(--block-background-fill); }
.card img { width: 100%; aspect-ratio: 4 / 3; object-fit: cover; image-rendering: pixelated; display: block; }
.card div { padding: .75rem; }
.card h2 { margin: 0 0 .25rem; font-size: 1.1rem; font-weight: 650; color: var(--body-text-color); }
.card p { margin: 0 0 .5rem; color: var(--body-text-color-subdued); font-size: .9rem; }
.card nav a { margin-right: .75rem; font-weight: 600; }
.panel { border: 1px solid var(--block-border-color); border-radius: .75rem; padding: 1rem !important;
  background: var(--block-background-fill); }
.panel h2 { margin: 0 0 .4rem; font-size: 1.2rem; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; margin: .35rem 0; padding: 0; list-style: none; }
.chip { border: 1px solid var(--input-border-color); border-radius: 1rem; padding: .1rem .6rem; font-size: .85rem;
  color: var(--body-text-color); background: var(--block-background-fill); }
.chip.used { border-color: #0f766e; background: #ccfbf1; color: #134e4a; }
.dark .chip.used { background: #134e4a; color: #ccfbf1; border-color: #2dd4bf; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .75rem; }
.tiles figure { margin: 0; }
.tiles img, .strip img, .big { width: 100%; image-rendering: pixelated; border-radius: .5rem; display: block; }
.tiles figcaption, .strip figcaption { font-size: .8rem; color: var(--body-text-color-subdued); margin-top: .25rem;
  overflow-wrap: anywhere; }
.tiles .left-out img { opacity: .45; }
.big { max-width: 22rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; max-width: 44rem; }
.pair figure { margin: 0; }
.pair img { width: 100%; image-rendering: pixelated; border-radius: .5rem; }
.facts { margin: .25rem 0 .5rem; padding-left: 1.2rem; }
.facts li { color: var(--body-text-color); }
table.plain, table.plain tr, table.plain td, table.plain th { border-left: 0 !important; border-right: 0 !important; }
table.plain { border-collapse: collapse; width: 100%; }
table.plain th, table.plain td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid
  var(--block-border-color); vertical-align: top; color: var(--body-text-color); }
.wide { overflow-x: auto; }
.bar { height: .75rem; border-radius: .5rem; background: var(--button-secondary-background-fill); overflow: hidden; }
.bar span { display: block; height: 100%; background: var(--primary-600); }
.figures { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: .5rem 0; }
.figures div { display: flex; flex-direction: column; }
.figures dt { font-size: .8rem; color: var(--body-text-color-subdued); }
.figures dd { margin: 0; font-size: 1.05rem; font-weight: 600; color: var(--body-text-color); }
pre.log { max-height: 14rem; overflow: auto; font-size: .8rem; background: var(--button-secondary-background-fill);
  color: var(--body-text-color); padding: .75rem; border-radius: .5rem; white-space: pre-wrap; }
.state { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; font-weight: 650;
  background: var(--button-secondary-background-fill); color: var(--body-text-color); }
.state.running, .state.finished { background: #ccfbf1; color: #134e4a; }
.state.failed { background: #fee2e2; color: #7f1d1d; }
.state.stopped, .state.stopping, .state.waiting { background: #fef9c3; color: #713f12; }
.drawings .grid-wrap { padding-top: 2.25rem !important; min-height: 0 !important; max-height: 70vh !important;
  overflow-y: auto !important; }
.drawings .grid-container { grid-template: none / repeat(auto-fill, minmax(7.5rem, 1fr)) !important;
  grid-auto-rows: auto !important; align-items: start; }
.drawings .gallery-item, .drawings .thumbnail-lg { height: auto !important; }
.drawings .thumbnail-lg { aspect-ratio: auto !important; }
.drawings .thumbnail-lg img { height: auto !important; aspect-ratio: 1; image-rendering: pixelated; }
.drawings .caption-label { position: static !important; max-width: none !important; padding: .3rem .4rem !important;
  border: 0 !important; white-space: normal !important; overflow-wrap: anywhere; opacity: 1 !important;
  color: var(--body-text-color); }
.talk { display: flex; flex-direction: column; gap: .6rem; max-height: 32rem; overflow-y: auto; }
.turn { padding: .6rem .8rem; border-radius: .75rem; max-width: 90%; color: var(--body-text-color);
  overflow-wrap: anywhere; }
.turn.you { align-self: flex-end; background: #ccfbf1; color: #134e4a; }
.dark .turn.you { background: #134e4a; color: #ccfbf1; }
.turn.it { align-self: flex-start; background: var(--button-secondary-background-fill); }
.turn .who { font-weight: 700; margin-right: .3rem; }
.choice { border: 1px solid var(--input-border-color); border-radius: .75rem; padding: .75rem; }
.choice h3 { margin: 0 0 .25rem; font-size: .95rem; color: var(--body-text-color-subdued); }
.choice p { margin: 0; color: var(--body-text-color); }
.reason { margin: 1.25rem 0; }
.reason h2 { font-size: 1.15rem; margin: 0; color: var(--body-text-color); }
.wide-cell { width: 40%; }
.prompt-row { margin: 1rem 0; }
.prompt-row h3 { margin: 0 0 .4rem; font-size: 1rem; color: var(--body-text-color); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem; max-width: 44rem; }
.columns figure { margin: 0; }
.columns img { width: 100%; max-width: 16rem; image-rendering: pixelated; border-radius: .5rem; display: block; }
.columns figcaption { font-size: .85rem; color: var(--body-text-color-subdued); }
.tiles.pages { grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.blank { aspect-ratio: 1; display: grid; place-items: center; border: 2px dashed var(--input-border-color);
  border-radius: .5rem; color: var(--body-text-color-subdued); }
.said { font-size: .8rem; margin: .2rem 0 0; color: inherit; }
.talked { image-rendering: pixelated; border-radius: .5rem; margin-top: .4rem; max-width: 100%; }
.chart { width: 100%; height: auto; color: var(--body-text-color-subdued); }
.address { display: none !important; }
button.lg { min-height: 2.5rem; }
@media (max-width: 640px) {
  .gradio-container, .gradio-container > .main, .gradio-container .fillable { padding: 0 .4rem 2rem !important; }
  .studio-top h1 { font-size: 1.4rem; }
  .pair { gap: .5rem; }
  .gradio-container .studio-nav a { padding: .35rem .5rem; }
  .gradio-container .row { flex-wrap: wrap; }
}
"""

# The address names what is shown: the page says it in an element that is not seen, and this copies it. Links of the
# menu take the thing along. Buttons that Gradio leaves without a name get one.
HEAD = """
<meta name="color-scheme" content="light dark">
<script>
document.documentElement.lang = "en";
function studioAddress() {
  const said = document.querySelector("[data-address]");
  if (said && said.dataset.address !== location.search) {
    history.replaceState(history.state, "", location.pathname + said.dataset.address);
  }
  for (const link of document.querySelectorAll(".studio-nav a")) {
    const kept = new URLSearchParams(location.search), part = new URLSearchParams();
    for (const name of ["thing", "weights"]) { if (kept.get(name)) part.set(name, kept.get(name)); }
    const to = link.dataset.to + (part.size ? "?" + part : "");
    if (link.getAttribute("href") !== to) link.setAttribute("href", to);
  }
  for (const button of document.querySelectorAll("button:not([aria-label])")) {
    if (!button.textContent.trim()) button.setAttribute("aria-label", button.title || "show");
  }
  for (const field of document.querySelectorAll("input[type=file]:not([aria-label])")) {
    field.setAttribute("aria-label", "choose files");
  }
}
new MutationObserver(studioAddress).observe(document, {subtree: true, childList: true});
document.addEventListener("DOMContentLoaded", studioAddress);
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, [contenteditable]")) return;
  const button = document.querySelector(`[data-key="${event.key}"] button, button[data-key="${event.key}"],
    .key-${event.key}`);
  if (button && button.offsetParent) { event.preventDefault(); button.click(); }
});
</script>
"""
