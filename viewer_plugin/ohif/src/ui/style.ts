// The panel's looks, dark and light. Every class has a prefix, for the viewer's style sheet is global.
import { showTheme, themeHere } from './theme';

const SHEET = `
.as-root { --as-ground: #070b14; --as-card: #0f1626; --as-field: #18223a; --as-line: #2a3654; --as-ink: #e8edf6; --as-quiet: #9fb0cd; --as-accent: #66b6ff; --as-main: #1466c4; --as-chosen: #14315c; --as-bad: #ffb0b0; --as-bad-ground: #3a1418; --as-warn: #ffd98a; --as-warn-ground: #33280c; --as-good: #62e08a; --as-minus: #ff9191;
  color: var(--as-ink); background: var(--as-ground); font: 13px/1.4 Inter, system-ui, sans-serif; height: 100%; overflow: auto; scrollbar-width: thin; color-scheme: dark }
[data-annotate-theme=light] .as-root { --as-ground: #eef1f6; --as-card: #fff; --as-field: #f3f6fb; --as-line: #c3cddd; --as-ink: #141d2e; --as-quiet: #4b5a73; --as-accent: #0b57b0; --as-main: #0f5bb5; --as-chosen: #dcebff; --as-bad: #8f1420; --as-bad-ground: #fde8e8; --as-warn: #6a4a00; --as-warn-ground: #fff3d1; --as-good: #0c6b32; --as-minus: #a8182a; color-scheme: light }
.as { display: flex; flex-direction: column; gap: 8px; padding: 8px; min-width: 0 }
.as section { background: var(--as-card); border: 1px solid var(--as-line); border-radius: 8px; padding: 8px 10px; display: flex; flex-direction: column; gap: 6px; min-width: 0 }
.as h1 { font-size: 18px; font-weight: 600; margin: 0 }
.as h2 { font-size: 12px; font-weight: 600; margin: 0; color: var(--as-quiet); letter-spacing: .02em }
.as h3 { font-size: 13px; font-weight: 600; margin: 0 }
.as p { margin: 0 }
.as a { color: var(--as-accent); text-decoration: underline }
.as summary { cursor: pointer }
.as .as-row { display: flex; gap: 5px; flex-wrap: wrap; align-items: center; min-width: 0 }
.as .as-tight { flex-wrap: nowrap }
.as .as-grow { flex: 1 1 0; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: left }
.as button, .as select, .as input[type=text], .as input[type=number], .as textarea {
  background: var(--as-field); color: inherit; border: 1px solid var(--as-line); border-radius: 6px; padding: 3px 8px; min-height: 26px; font: inherit; min-width: 0 }
.as select { max-width: 100% }
.as input[type=number] { width: 5.2em }
.as input[type=range], .as input[type=checkbox] { accent-color: var(--as-accent) }
.as textarea { min-height: 3.6em; resize: vertical }
.as ::placeholder { color: var(--as-quiet); opacity: 1 }
.as button { cursor: pointer; white-space: nowrap }
.as button:hover:not(:disabled) { border-color: var(--as-accent) }
.as button[aria-pressed=true]:not(.as-plain) { background: var(--as-chosen); border-color: var(--as-accent); color: var(--as-ink) }
.as button.as-plain[aria-pressed=true] { color: var(--as-accent) }
.as button.as-main { background: var(--as-main); color: #fff; border-color: transparent; font-weight: 500 }
.as button:disabled { opacity: .5; cursor: default }
.as button.as-plain { background: none; border-color: transparent; padding: 2px 4px; min-width: 24px; min-height: 24px }
.as button.as-plain > svg { margin: auto }
.as button kbd { margin-left: 5px; opacity: .75 }
.as .as-bar { position: sticky; top: 0; z-index: 2; box-shadow: 0 6px 10px -6px #0006 }
.as .as-tools { display: grid; grid-template-columns: repeat(4, 1fr); gap: 5px }
.as .as-tools button { padding: 3px 1px; text-align: center }
.as .as-tools kbd { border: none; padding: 0; margin-left: 4px }
.as .as-hands { grid-template-columns: repeat(6, 1fr) } .as .as-hands button { grid-column: span 2 } .as .as-hands button:nth-child(n+4) { grid-column: span 3 }
.as .as-steps { display: flex; align-items: center; border: 1px solid var(--as-line); border-radius: 6px; background: var(--as-field); flex: 1 1 0; min-width: 0 }
.as .as-steps span { flex: 1; text-align: center; white-space: nowrap }
.as .as-list { scrollbar-width: thin; display: flex; flex-direction: column; gap: 1px; max-height: 30vh; overflow: auto; margin: 0; padding: 1px; list-style: none }
.as .as-item { display: flex; flex: none; gap: 5px; align-items: center; padding: 2px 4px; border-radius: 6px; min-height: 28px }
.as .as-item[aria-current=true] { background: var(--as-chosen); outline: 1px solid var(--as-accent) }
.as .as-named { flex: 1 1 0; min-width: 0 }
.as .as-named > button.as-grow { display: block; width: 100%; padding: 0 4px; min-height: 22px }
.as .as-figures { font-size: 11.5px; line-height: 17px; color: var(--as-quiet); padding-left: 4px; font-variant-numeric: tabular-nums }
.as .as-figures button.as-plain { font-size: inherit; color: inherit; padding: 0 3px; min-height: 17px; text-decoration: underline dotted; text-underline-offset: 3px }
.as .as-colour { width: 22px; height: 20px; padding: 0; border: 1px solid var(--as-line); border-radius: 5px; background: none; flex: none; cursor: pointer; overflow: hidden }
.as .as-colour::-webkit-color-swatch-wrapper { padding: 0 } .as .as-colour::-webkit-color-swatch { border: none }
.as .as-quiet { color: var(--as-quiet) }
.as .as-word { font-size: 11px; border: 1px solid var(--as-line); border-radius: 9px; padding: 0 7px; color: var(--as-quiet) }
.as .as-word[data-word=hard] { color: var(--as-warn); border-color: currentColor }
.as .as-word[data-word=easy] { color: var(--as-good); border-color: currentColor }
.as .as-problem { border-color: currentColor; color: var(--as-bad); background: var(--as-bad-ground) }
.as .as-note { border-color: currentColor; color: var(--as-warn); background: var(--as-warn-ground) }
.as .as-problem button, .as .as-note button { color: var(--as-ink) }
.as .as-sign { color: var(--as-good) } .as .as-sign[data-sign=negative] { color: var(--as-minus) }
.as .as-dot { width: 8px; height: 8px; border-radius: 50%; background: var(--as-good); flex: none } .as .as-dot[data-state=busy] { background: var(--as-accent) } .as .as-dot[data-state=away] { background: var(--as-minus) }
.as progress { width: 100%; height: 6px; accent-color: var(--as-accent) }
.as kbd { font: 10.5px/1 ui-monospace, monospace; border: 1px solid var(--as-line); border-radius: 4px; padding: 1px 4px; white-space: nowrap }
.as table { border-collapse: collapse; width: 100% } .as td, .as th { padding: 2px 8px 2px 0; text-align: left; vertical-align: top }
.as :focus-visible { outline: 2px solid var(--as-accent); outline-offset: 1px }
.as-page { max-width: 60rem; margin: 0 auto; height: auto; overflow: visible; background: none }
.as-page .as { padding: 20px }
.as-page .as-list { max-height: none }
.as-page .as-item { min-height: 38px; border-radius: 0 } .as-page .as-item + .as-item { border-top: 1px solid var(--as-line) }
.as-page input[type=text] { max-width: 12rem }
.as-page form input[type=text] { max-width: none }
.as .as-list .as-item:hover { background: var(--as-field) } .as .as-list .as-item[aria-current=true] { background: var(--as-chosen) }
body.as-body { background: #070b14; margin: 0 }
[data-annotate-theme=light] body.as-body { background: #eef1f6 }
`;

export function addStyle(): void {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(SHEET);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  showTheme(themeHere());
}
