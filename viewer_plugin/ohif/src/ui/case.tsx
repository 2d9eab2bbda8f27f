// The open case: its draft, what changes it, and how it is finished.
import { useEffect, useMemo, useReducer, useRef, useState } from 'preact/hooks';
import type { Desk } from '../draft/desk';
import type { Longest } from '../draft/diameter';
import { placeOf, voxelAt } from '../draft/grid';
import { middleOf, nextSlice, unsureSlices } from '../draft/review';
import { PROMPT_TOOL, type Drawn, type PromptKind } from '../host/promptTool';
import type { HandTool, Viewer } from '../host/viewer';
import type { Client } from '../server/client';
import type { CaseView, ModelView, ProjectView, PromptForm } from '../server/types';
import { Drafting } from './drafting';
import { useDiameters, useLookBack } from './figures';
import { Finish, Keys, LookedAt } from './finish';
import { Helpers } from './helpers';
import { listenToKeys, PANEL_KEY, type Key } from './keys';
import { LookAgain } from './lookAgain';
import { useOrdering } from './ordering';
import { heartbeats, holding } from './presence';
import { ProblemBox } from './problem';
import { Remarks } from './remarks';
import { Segments } from './segments';
import { answering, HANDS, MOST_BRUSH_MM, PROMPTS, Tools, type InHand } from './tools';

const FIRST_BRUSH_MM = 8;
const PAGE_OF_SLICES = 10;

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
  const [place, setPlace] = useState<number[] | null>(null);
  const [isOutlined, setOutlined] = useState(false);
  const [where, setWhere] = useState('');
  const [isPartial, setPartial] = useState(false);
  const { state } = desk;
  const ordering = useOrdering(client, desk);
  const longest = useDiameters(desk, found);
  const lookBack = useLookBack(desk);
  const unsure = useMemo(() => unsureSlices(state.drafted?.unsure ?? []), [state.drafted]);

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
    const label = await desk.submit(isPartial || null);
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
  const [, rows = 0, columns = 0] = found.geometry?.shape ?? [];
  const show = (index: readonly number[], words = '') => {
    viewer.goTo(placeOf(found.geometry!, index));
    setWhere(`Slice ${viewer.sight.position()}${words}`);
  };
  const lookAtChanged = async (by: 1 | -1) => {
    const differences = await lookBack.fetch();
    const k = differences && nextSlice(differences.slices(), viewer.sight.sliceShown() ?? 0, by);
    if (k === null) setWhere(differences ? 'Nothing is changed.' : '');
    else show(differences!.middle(k, columns) ?? [k, rows >> 1, columns >> 1]);
  };
  const lookAtUnsure = (by: 1 | -1) => {
    const k = nextSlice(unsure, viewer.sight.sliceShown() ?? 0, by);
    if (k !== null) show(middleOf(desk.copy.slice(k), undefined, k, columns) ?? [k, rows >> 1, columns >> 1], `: unsure by ${Math.round(100 * state.drafted!.unsure[k]!)} %`);
  };
  const lookAtLongest = (index: number, { k }: Longest) => {
    const own = desk.copy.slice(k)?.map(value => Number(value === index));
    show(middleOf(own, undefined, k, columns) ?? [k, rows >> 1, columns >> 1]);
  };
  const outline = () => setOutlined(Boolean(state.drafted) && !isOutlined);
  const keys: Key[] = [
    { key: 'z', ctrl: true, label: 'Ctrl+Z', what: 'Undo', act: undo },
    { key: 'z', ctrl: true, shift: true, label: 'Ctrl+Shift+Z', what: 'Redo', act: redo },
    { key: 'y', ctrl: true, label: 'Ctrl+Y', what: 'Redo', act: redo },
    ...PROMPTS.map(([kind, label, key]) => ({ key: key.toLowerCase(), label: key, what: `${label} prompt`, act: () => take(kind) })),
    { key: 'n', label: 'N', what: 'Positive or negative', act: () => setPositive(!positive) },
    ...HANDS.map(([tool, label, key]) => ({ key: key.toLowerCase(), label: key, what: label, act: () => take(tool) })),
    { key: '[', label: '[', what: 'Smaller brush', act: () => resize(brushMm - 1) },
    { key: ']', label: ']', what: 'Larger brush', act: () => resize(brushMm + 1) },
    { key: 'ArrowUp', label: '↑', what: 'A slice back', act: () => viewer.sight.scroll(-1) },
    { key: 'ArrowDown', label: '↓', what: 'A slice on', act: () => viewer.sight.scroll(1) },
    { key: 'PageUp', label: 'Page ↑', what: 'Ten slices back', act: () => viewer.sight.scroll(-PAGE_OF_SLICES) },
    { key: 'PageDown', label: 'Page ↓', what: 'Ten slices on', act: () => viewer.sight.scroll(PAGE_OF_SLICES) },
    { key: 'v', label: 'V', what: 'The next pane', act: () => viewer.sight.nextPane() },
    { key: 'j', label: 'J', what: 'Next slice that is not as the model made it', act: () => void lookAtChanged(1) },
    { key: 'j', shift: true, label: 'Shift+J', what: 'The one before', act: () => void lookAtChanged(-1) },
    { key: 'u', label: 'U', what: 'Next slice that the model was unsure of', act: () => lookAtUnsure(1) },
    { key: 'u', shift: true, label: 'Shift+U', what: 'The one before', act: () => lookAtUnsure(-1) },
    { key: 'm', label: 'M', what: 'The model’s outlines', act: outline },
    { key: 'h', label: 'H', what: 'Hide or show all segments', act: () => { viewer.hideAll(!isAllHidden); setAllHidden(!isAllHidden); } },
    ...state.segments.slice(0, 9).map((segment, n) => ({ key: String(n + 1), label: String(n + 1), what: segment.name, act: () => takeUp(segment.index) })),
    { key: 'Enter', ctrl: true, label: 'Ctrl+Enter', what: 'Submit', act: () => void submit() },
    { key: PANEL_KEY, label: PANEL_KEY, what: 'Into this panel, and Tab from there', act: () => document.querySelector<HTMLElement>('[data-cy=as-submit]')?.focus() },
    ...(areKeysShown ? [{ key: 'Escape', label: 'Esc', what: 'Close this list', act: () => setKeysShown(false) }] : []),
    { key: '?', label: '?', what: 'These keys', act: () => setKeysShown(!areKeysShown) },
  ];
  const heard = useRef(keys);
  heard.current = keys;
  const resize = (mm: number) => { const next = Math.min(MOST_BRUSH_MM, Math.max(1, mm)); setBrushMm(next); viewer.brush(next); };

  useEffect(() => desk.subscribe(() => again(undefined)), [desk]);
  useEffect(() => viewer.onVoxels(() => desk.edited()), [desk]);
  useEffect(() => viewer.keepActive(), [viewer]);
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
  useEffect(() => viewer.sight.onPress(pressed => {
    viewer.standOnSlices(inPane => {
      const index = found.geometry && voxelAt(found.geometry, inPane);
      return index && placeOf(found.geometry!, index);
    });
    setPlace(pressed);
  }), [viewer, found]);
  useEffect(() => { if (isOutlined) void lookBack.fetch(); }, [isOutlined, state.drafted]);
  useEffect(() => {
    void desk.attempt(() => viewer.outlines(isOutlined ? lookBack.made : null, state.drafted?.segments ?? []));
  }, [isOutlined, lookBack.made]);
  useEffect(() => {
    if (!state.segments.some(segment => segment.index === active)) takeUp(state.segments[0]?.index ?? 0);
  }, [state.segments]);

  const unit = found.unit && found.unit !== '1' ? found.unit : '';
  const seed = place && found.geometry ? voxelAt(found.geometry, place) : null;
  return (
    <>
      <Finish title={`${found.name}${found.modality ? ` · ${found.modality}` : ''}`} state={state} onUndo={undo} onRedo={redo} onSubmit={submit} onLeave={leave} onHelp={() => setKeysShown(!areKeysShown)} />
      <ProblemBox problem={state.problem} onClose={desk.dismiss} />
      {areKeysShown && <Keys keys={keys} onClose={() => setKeysShown(false)} />}
      <Remarks found={found} />
      {state.notes.length > 0 && <section class="as-note" role="status">{state.notes.map(note => <p key={note}>{note}</p>)}</section>}
      {!found.modality && <Undeclared onSay={modality => void declare(modality)} />}
      <Drafting ordering={ordering} models={models} found={found} project={project} />
      <Segments desk={desk} state={state} active={active} hidden={hidden} found={found} longest={longest} onActive={takeUp} onHidden={hide} onLongest={lookAtLongest} />
      <Tools models={models} found={found} hasSegment={active > 0} model={model} inHand={inHand} positive={positive} brushMm={brushMm}
        onModel={setModel} onTake={take} onSign={() => setPositive(!positive)} onBrush={resize} />
      <LookAgain drafted={state.drafted} models={models} changed={lookBack.changed} unsure={unsure} isOutlined={isOutlined} isRunning={ordering.isRunning} where={where}
        onChanged={by => void lookAtChanged(by)} onUnsure={lookAtUnsure} onOutline={outline} onDraftAgain={name => void ordering.run(name)} />
      <Helpers active={active} segments={state.segments} unit={unit} place={seed && place} placeWords={seed ? `${viewer.sight.intensity(seed)?.toFixed(0) ?? ''} ${unit}` : ''}
        onPick={() => take('WindowLevel')} onHelp={form => void desk.help(form)} />
      <LookedAt isPartial={isPartial} onPartial={setPartial} />
      <section aria-labelledby="as-view">
        <h2 id="as-view">View</h2>
        <div class="as-row"><button data-cy="as-planes" onClick={() => viewer.layOut('planes')}>Planes</button><button data-cy="as-surfaces" onClick={() => viewer.layOut('surfaces')}>With surfaces in 3D</button></div>
      </section>
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
