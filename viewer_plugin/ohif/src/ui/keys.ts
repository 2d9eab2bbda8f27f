// The keys of the panel. They are heard before the viewer's own, and only while nobody types into a field.

export interface Key { key: string; label: string; what: string; ctrl?: boolean; shift?: boolean; act: () => void }

/** Leads into the panel, as it leads from part to part in other programs. */
export const PANEL_KEY = 'F6';

export function heardKey(keys: readonly Key[], event: { key: string; ctrlKey: boolean; metaKey: boolean; shiftKey: boolean; altKey: boolean }): Key | undefined {
  const isCtrl = event.ctrlKey || event.metaKey;
  const pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  // what a sign needs Shift for differs between keyboards: it counts for letters and named keys only
  const isLetter = /^[a-z]$/.test(pressed) || pressed.length > 1;
  return keys.find(({ key, ctrl, shift }) => key === pressed && Boolean(ctrl) === isCtrl && !event.altKey && (!isLetter || Boolean(shift) === event.shiftKey));
}

export function listenToKeys(keys: () => readonly Key[]): () => void {
  const heard = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement | null;
    if (target?.closest('textarea, select, [contenteditable=true], input:not([type=range]):not([type=checkbox]):not([type=color])')) return;
    const key = heardKey(keys(), event);
    if (!key) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    key.act();
  };
  window.addEventListener('keydown', heard, { capture: true });
  return () => window.removeEventListener('keydown', heard, { capture: true });
}
