// The panel's looks: the viewer's own colours; every class with a prefix, for the viewer's style sheet is global.
const SHEET = `
.as-root { color: hsl(var(--foreground, 210 20% 92%)); background: transparent; font: 13px/1.45 Inter, system-ui, sans-serif; height: 100%; overflow: auto }
.as { display: flex; flex-direction: column; gap: 10px; padding: 10px; min-width: 0 }
.as section { border: 1px solid hsl(var(--input, 220 20% 30%)); border-radius: 6px; padding: 8px 10px; display: flex; flex-direction: column; gap: 7px; min-width: 0 }
.as h2 { font-size: 13px; font-weight: 600; margin: 0; color: hsl(var(--muted-foreground, 215 15% 70%)) }
.as h3 { font-size: 13px; font-weight: 500; margin: 0 }
.as p { margin: 0 }
.as a { color: hsl(var(--primary, 205 90% 66%)); text-decoration: underline }
.as .as-row { display: flex; gap: 6px; flex-wrap: wrap; align-items: center }
.as .as-grow { flex: 1 1 0; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: left }
.as button, .as select, .as input[type=text], .as input[type=number], .as textarea {
  background: hsl(var(--muted, 220 25% 18%)); color: inherit; border: 1px solid hsl(var(--input, 220 20% 30%)); border-radius: 4px; padding: 3px 8px; font: inherit; min-width: 0 }
.as select { max-width: 100% }
.as button { cursor: pointer }
.as button:hover:not(:disabled) { border-color: hsl(var(--primary, 205 90% 60%)) }
.as button.as-plain[aria-pressed=true] { color: hsl(var(--primary, 205 90% 60%)) }
.as button[aria-pressed=true]:not(.as-plain), .as button.as-main { background: #0b5fc0; color: #fff; border-color: transparent }
.as button:disabled { opacity: .45; cursor: default }
.as button.as-plain { background: none; border-color: transparent; padding: 2px 4px }
.as .as-list { scrollbar-width: thin; display: flex; flex-direction: column; gap: 2px; max-height: 34vh; overflow: auto; margin: 0; padding: 0; list-style: none }
.as .as-item { display: flex; gap: 6px; align-items: center; padding: 2px 4px; border-radius: 4px }
.as .as-item[aria-current=true] { background: hsl(var(--muted, 220 25% 18%)); outline: 1px solid hsl(var(--primary, 205 90% 60%)) }
.as .as-colour { width: 22px; height: 18px; padding: 0; border: 1px solid hsl(var(--input, 220 20% 30%)); border-radius: 3px; background: none; flex: none }
.as .as-quiet { color: hsl(var(--muted-foreground, 215 15% 70%)) }
.as .as-problem { border-color: #ff8080; color: #ffb3b3 }
.as .as-note { border-color: #d8b24a }
.as .as-sign { color: #50e678 } .as .as-sign[data-sign=negative] { color: #ff7f7f }
.as progress { width: 100%; height: 6px; accent-color: hsl(var(--primary, 205 90% 60%)) }
.as kbd { font: 11px ui-monospace, monospace; border: 1px solid hsl(var(--input, 220 20% 30%)); border-radius: 3px; padding: 0 4px }
.as table { border-collapse: collapse; width: 100% } .as td, .as th { padding: 3px 8px 3px 0; text-align: left; vertical-align: top }
.as :focus-visible { outline: 2px solid hsl(var(--highlight, 200 90% 60%)); outline-offset: 1px }
.as-page { max-width: 60rem; margin: 0 auto; --foreground: 210 20% 92%; --muted: 220 25% 18%; --input: 220 20% 32%; --primary: 205 90% 66%; --primary-foreground: 220 40% 10%; --muted-foreground: 215 15% 72% }
.as-page .as-list { max-height: none }
body.as-body { background: #0b1220; margin: 0 }
`;

export function addStyle(): void {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(SHEET);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}
