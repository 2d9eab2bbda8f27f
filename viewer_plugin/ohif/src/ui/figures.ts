// What is measured while nobody waits: the longest diameters, and where the draft is no longer what the model made.
import { useEffect, useMemo, useReducer, useState } from 'preact/hooks';
import type { DraftCopy } from '../draft/copy';
import type { Desk } from '../draft/desk';
import { Diameters, type Longest } from '../draft/diameter';
import { Differences } from '../draft/review';
import type { CaseView } from '../server/types';

/** So long is worked at once; a frame of the screen has 16 ms. */
const STEP_MS = 6;
const LONGEST_WAIT_MS = 1000;

/** The longest diameter of each segment, as far as it is measured. */
export function useDiameters(desk: Desk, found: CaseView): ReadonlyMap<number, Longest> {
  const [, again] = useReducer((count: number) => count + 1, 0);
  const diameters = useMemo(() => {
    const [, jMm = 1, iMm = 1] = found.geometry?.spacing_mm ?? [];
    return new Diameters(desk.copy, desk.copy.shape[2], { jMm, iMm });
  }, [desk]);
  useEffect(() => whenIdle(() => {
    const until = performance.now() + STEP_MS;
    const isDone = diameters.work(() => performance.now() < until);
    if (isDone) again(undefined);
    return isDone;
  }), [desk, desk.state.counts]);
  return diameters.longest();
}

export interface LookBack {
  /** The model's draft; null until somebody wanted to see it. */
  made: DraftCopy | null;
  /** The slices that differ from it, in order; null until it is here. */
  changed: readonly number[] | null;
  differences: Differences | null;
  fetch: () => Promise<Differences | null>;
}

/** What the model made, beside the draft: fetched when it is first wanted, compared anew whenever the draft changes. */
export function useLookBack(desk: Desk): LookBack {
  const [compared, setCompared] = useState<{ made: DraftCopy; differences: Differences } | null>(null);
  const [changed, setChanged] = useState<readonly number[] | null>(null);
  const prediction = desk.state.drafted?.prediction;
  useEffect(() => { setCompared(null); setChanged(null); }, [prediction]);
  useEffect(() => compared ? whenIdle(() => { setChanged(compared.differences.slices()); return true; }) : undefined, [compared, desk.state.counts]);
  const fetch = async () => {
    if (compared) return compared.differences;
    const made = await desk.modelDraft();
    if (!made) return null;
    const differences = new Differences(desk.copy, made);
    setCompared({ made, differences });
    setChanged(differences.slices());
    return differences;
  };
  return { made: compared?.made ?? null, differences: compared?.differences ?? null, changed, fetch };
}

/** Work whenever the page is idle until it is done; returns what stops it. */
function whenIdle(work: () => boolean): () => void {
  let handle = 0;
  const next = () => { handle = requestIdleCallback(() => { if (!work()) next(); }, { timeout: LONGEST_WAIT_MS }); };
  next();
  return () => cancelIdleCallback(handle);
}
