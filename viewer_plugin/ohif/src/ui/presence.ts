// What a person does at a case, as the desk has to know it: whether a stroke is being drawn, and whether anybody is there.
import type { Desk } from '../draft/desk';

const HEARTBEAT_S = 30;
const ACTIVE_STEP_S = 5;

/** Tell the desk when a stroke begins and ends. */
export function holding(desk: Desk): () => void {
  const down = () => desk.hold(true);
  const up = () => desk.hold(false);
  const ends = ['pointerup', 'pointercancel', 'blur'] as const;
  window.addEventListener('pointerdown', down, { capture: true });
  for (const name of ends) window.addEventListener(name, up, { capture: true });
  return () => {
    window.removeEventListener('pointerdown', down, { capture: true });
    for (const name of ends) window.removeEventListener(name, up, { capture: true });
    up();
  };
}

/** Hold the lease, and say how long the person was at it. */
export function heartbeats(desk: Desk): () => void {
  let isActive = false;
  let seconds = 0;
  let since = 0;
  const active = () => { isActive = true; };
  const events = ['pointermove', 'pointerdown', 'keydown', 'wheel'] as const;
  for (const name of events) window.addEventListener(name, active, { passive: true });
  const timer = setInterval(() => {
    since += ACTIVE_STEP_S;
    if (isActive) seconds += ACTIVE_STEP_S;
    isActive = false;
    if (since < HEARTBEAT_S) return;
    const told = seconds;
    since = 0;
    seconds = 0;
    // the time counts for the label: what was not heard is said with the next one
    void desk.heartbeat(told).then(isHeard => { if (!isHeard) seconds += told; });
  }, ACTIVE_STEP_S * 1000);
  return () => {
    clearInterval(timer);
    for (const name of events) window.removeEventListener(name, active);
  };
}
