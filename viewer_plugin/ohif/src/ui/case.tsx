// The open case: its draft, what changes it, and how it is finished.
import { useEffect, useReducer, useRef, useState } from 'preact/hooks';
import type { Desk } from '../draft/desk';
import { PROMPT_TOOL, type Drawn, type PromptKind } from '../host/promptTool';
import type { HandTool, Viewer } from '../host/viewer';
import type { Client } from '../server/client';
import type { CaseView, ModelView, ProjectView, PromptForm } from '../server/types';
import { Drafting } from './drafting';
import { Finish, Keys } from './finish';
import { Helpers } from './helpers';
import { listenToKeys, type Key } from './keys';
import { ProblemBox } from './problem';
import { Segments } from './segments';
import { answering, HANDS, MOST_BRUSH_MM, PROMPTS, Tools, type InHand } from './tools';

const HEARTBEAT_S = 30;
const ACTIVE_STEP_S = 5;
const FIRST_BRUSH_MM = 8;

export function CaseDesk({ client, viewer, desk, found, models, project, onEnd }: {
  client: Client; viewer: Viewer; desk: Desk; found: CaseView; models: ModelView[]; project: ProjectView | undefined; onEnd: (sentence: string) => void;
}) {
  const [, again] = useReducer((count: number) => count + 1, 0);
  const [active, setActive] = useState(desk.state.segments[0]?.index ?? 0);
  const [hidden, setHidden] = useState<Set<number>>(new Set());
  const [inHand, setInHand] = useState<InHand>('');
  const [positive, setPositive] = useState(true);
  const [brushMm, setBrushMm] = useState(FIRST_BRUSH_MM);
  const [model, setModel] = useState(() => PROMPTS.map(([kind]) => answering(models, kind, found)[0]?.name).find(Boolean) ?? '');
  const [areKeysShown, setKeysShown] = useState(false);
  const [isAllHidden, setAllHidden] = useState(false);
  const { state } = desk;

  const takeUp = (index: number) => { setActive(index); viewer.activate(index); };
  const take = (tool: InHand) => {
    if (!tool || (!active && tool !== 'WindowLevel')) return;
    const isPrompt = PROMPTS.some(([kind]) => kind === tool);
    if (isPrompt && !models.find(each => each.name === model)?.card?.prompts.includes(tool)) {
      const other = answering(models, tool, found)[0];
      if (!other) return;
      setModel(other.name);
    }
    setInHand(tool);
    viewer.use(isPrompt ? PROMPT_TOOL : tool as HandTool);
    viewer.activate(active);
    if (!isPrompt && tool !== 'WindowLevel') viewer.brush(brushMm);
  };
  const drawn = ({ kind, points, isOtherSign }: Drawn) => {
    const form: PromptForm = { kind, points_mm: points, segment: active, positive: positive !== isOtherSign, model };
    void desk.prompt(form);
  };
  // the tool outlives many renderings: it reads what holds now
  const now = useRef({ inHand, positive, drawn });
  now.current = { inHand, positive, drawn };

  const undo = () => void desk.undo();
  const redo = () => void desk.redo();
  const submit = async () => {
    const label = await desk.submit();
    if (label) onEnd(label.state === 'approved' ? 'The label is stored and approved.' : 'The label is submitted and waits for a second person.');
  };
  const leave = async () => { if (await desk.leave()) onEnd('The draft is kept; go on with it whenever you like.'); };
  const declare = async (modality: Declarable) => {
    // the page is loaded again: the viewer shows images of another modality otherwise
    if (await desk.flush() && await desk.attempt(async () => { await client.declareModality(found.id, modality); })) location.reload();
  };
  const hide = (index: number) => {
    const next = new Set(hidden);
    if (!next.delete(index)) next.add(index);
    viewer.hide(index, next.has(index));
    setHidden(next);
  };
  const keys: Key[] = [
    { key: 'z', ctrl: true, label: 'Ctrl+Z', what: 'Undo', act: undo },
    { key: 'z', ctrl: true, shift: true, label: 'Ctrl+Shift+Z', what: 'Redo', act: redo },
    { key: 'y', ctrl: true, label: 'Ctrl+Y', what: 'Redo', act: redo },
    ...PROMPTS.map(([kind, label, key]) => ({ key: key.toLowerCase(), label: key, what: `${label} prompt`, act: () => take(kind) })),
    { key: 'n', label: 'N', what: 'Positive or negative', act: () => setPositive(!positive) },
    ...HANDS.map(([tool, label, key]) => ({ key: key.toLowerCase(), label: key, what: label, act: () => take(tool) })),
    { key: '[', label: '[', what: 'Smaller brush', act: () => resize(brushMm - 1) },
    { key: ']', label: ']', what: 'Larger brush', act: () => resize(brushMm + 1) },
    { key: 'ArrowUp', label: '↑', what: 'A slice back', act: () => viewer.scroll(-1) },
    { key: 'ArrowDown', label: '↓', what: 'A slice on', act: () => viewer.scroll(1) },
    { key: 'h', label: 'H', what: 'Hide or show all segments', act: () => { viewer.hideAll(!isAllHidden); setAllHidden(!isAllHidden); } },
    ...state.segments.slice(0, 9).map((segment, n) => ({ key: String(n + 1), label: String(n + 1), what: segment.name, act: () => takeUp(segment.index) })),
    { key: 'Enter', ctrl: true, label: 'Ctrl+Enter', what: 'Submit', act: () => void submit() },
    { key: '?', label: '?', what: 'These keys', act: () => setKeysShown(!areKeysShown) },
  ];
  const heard = useRef(keys);
  heard.current = keys;
  const resize = (mm: number) => { const next = Math.min(MOST_BRUSH_MM, Math.max(1, mm)); setBrushMm(next); viewer.brush(next); };

  useEffect(() => desk.subscribe(() => again(undefined)), [desk]);
  useEffect(() => viewer.onVoxels(() => desk.edited()), [desk]);
  useEffect(() => holding(desk), [desk]);
  useEffect(() => listenToKeys(() => heard.current), []);
  useEffect(() => {
    viewer.promptTool({ kind: () => now.current.inHand as PromptKind, positive: () => now.current.positive, drawn: prompt => now.current.drawn(prompt) });
    viewer.takeOverUndo(() => void desk.undo(), () => void desk.redo());
    if (active) viewer.activate(active);
    // what is open, for tests and for whoever looks into it with the browser's own tools
    Object.assign(window, { annotateCase: { desk, viewer, found } });
    const warn = (event: BeforeUnloadEvent) => { if (desk.state.hasUnsent) event.preventDefault(); };
    window.addEventListener('beforeunload', warn);
    return () => window.removeEventListener('beforeunload', warn);
  }, [desk]);
  useEffect(() => heartbeats(desk), [desk]);
  useEffect(() => {
    if (!state.segments.some(segment => segment.index === active)) takeUp(state.segments[0]?.index ?? 0);
  }, [state.segments]);

  return (
    <>
      <h3 data-cy="as-open-case">{found.name}{found.modality ? ` · ${found.modality}` : ''}</h3>
      {found.warnings.length > 0 && <section class="as-note" role="note">{found.warnings.map(warning => <p key={warning}>⚠ {warning}</p>)}</section>}
      <ProblemBox problem={state.problem} onClose={desk.dismiss} />
      {state.notes.length > 0 && <section class="as-note" role="status">{state.notes.map(note => <p key={note}>{note}</p>)}</section>}
      <Finish canUndo={state.canUndo} canRedo={state.canRedo} hasUnsent={state.hasUnsent} isReachable={state.isReachable} doing={state.doing}
        onUndo={undo} onRedo={redo} onSubmit={submit} onLeave={leave} onHelp={() => setKeysShown(!areKeysShown)} />
      {areKeysShown && <Keys keys={keys} onClose={() => setKeysShown(false)} />}
      {!found.modality && <Undeclared onSay={modality => void declare(modality)} />}
      <Drafting client={client} desk={desk} models={models} found={found} project={project} />
      <Segments desk={desk} state={state} active={active} hidden={hidden} found={found} onActive={takeUp} onHidden={hide} />
      <Tools models={models} found={found} hasSegment={active > 0} model={model} inHand={inHand} positive={positive} brushMm={brushMm}
        onModel={setModel} onTake={take} onSign={() => setPositive(!positive)} onBrush={resize} />
      <section aria-labelledby="as-view">
        <h2 id="as-view">View</h2>
        <div class="as-row"><button data-cy="as-planes" onClick={() => viewer.layOut('planes')}>Planes</button><button data-cy="as-surfaces" onClick={() => viewer.layOut('surfaces')}>With surfaces in 3D</button></div>
      </section>
      <Helpers desk={desk} active={active} segments={state.segments} unit={found.unit ?? ''} />
    </>
  );
}

const MODALITIES = [['CT', 'CT'], ['MR', 'MRI'], ['PT', 'PET'], ['OT', 'other']] as const;
type Declarable = typeof MODALITIES[number][0];

/** Models are made for a modality, and this file names none. */
function Undeclared({ onSay }: { onSay: (modality: Declarable) => void }) {
  return (
    <section class="as-note" aria-label="Modality">
      <p>The file does not say what it was taken with. It is</p>
      <div class="as-row">{MODALITIES.map(([modality, label]) => <button key={modality} data-cy={`as-modality-${modality}`} onClick={() => onSay(modality)}>{label}</button>)}</div>
    </section>
  );
}

/** Tell the desk when a stroke begins and ends. */
function holding(desk: Desk): () => void {
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
function heartbeats(desk: Desk): () => void {
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
    void desk.heartbeat(seconds);
    since = 0;
    seconds = 0;
  }, ACTIVE_STEP_S * 1000);
  return () => {
    clearInterval(timer);
    for (const name of events) window.removeEventListener(name, active);
  };
}
