// The server's classical helpers on the active segment.
import { useState } from 'preact/hooks';
import { FIRST, fieldsOf, helperOrder, KINDS, lacking, needsPlace, type Field, type Kind, type Numbered, type Settings } from './helperOrders';
import type { HelperForm } from '../server/types';

interface Choice<T> { value: T; label: string }
const AXES: Choice<Settings['axis']>[] = [{ value: 0, label: 'slices as acquired' }, { value: 1, label: 'rows' }, { value: 2, label: 'columns' }];
const RULES: Choice<Settings['rule']>[] = [{ value: 'largest', label: 'keep the largest part' }, { value: 'minimum-size', label: 'keep parts from' }, { value: 'at-seed', label: 'keep the part last clicked' }];
const COMBINATIONS: Choice<Settings['combination']>[] = [{ value: 'union', label: 'add' }, { value: 'difference', label: 'take away' }, { value: 'intersection', label: 'keep what both have' }, { value: 'copy', label: 'copy' }];

export function Helpers({ active, segments, unit, place, placeWords, onPick, onHelp }: {
  active: number; segments: { index: number; name: string }[]; unit: string; place: readonly number[] | null; placeWords: string;
  onPick: () => void; onHelp: (form: HelperForm) => void;
}) {
  const [kind, setKind] = useState<Kind>('smooth');
  const [settings, setSettings] = useState(FIRST);
  const others = segments.filter(each => each.index !== active);
  const at = { segment: active, place, others: others.map(each => each.index) };
  const set = (part: Partial<Settings>) => setSettings({ ...settings, ...part });
  const why = lacking(kind, settings, at);
  return (
    <section aria-labelledby="as-helpers">
      <h2 id="as-helpers">Help with the segment</h2>
      <div class="as-row as-tight">
        <select class="as-grow" aria-label="Helper" data-cy="as-helper" value={kind} onChange={event => setKind(event.currentTarget.value as Kind)}>
          {KINDS.map(each => <option key={each.kind} value={each.kind}>{each.label}</option>)}
        </select>
        <button data-cy="as-help" disabled={why !== ''} title={why} onClick={() => onHelp(helperOrder(kind, settings, at))}>Do it</button>
      </div>
      {fieldsOf(kind, settings).length > 0 && <div class="as-row">{fieldsOf(kind, settings).map(field => <Setting key={field} field={field} kind={kind} settings={settings} others={others} unit={unit} onSet={set} />)}</div>}
      {needsPlace(kind, settings) && <div class="as-row"><span class="as-quiet as-grow" role="status">{place ? `From your last click: ${placeWords}` : 'Click where it begins.'}</span><button data-cy="as-pick" onClick={onPick}>Pick</button></div>}
      <p class="as-quiet">{KINDS.find(each => each.kind === kind)!.what}{why && active && !needsPlace(kind, settings) ? ` ${why}` : ''}</p>
    </section>
  );
}

function Setting({ field, kind, settings, others, unit, onSet }: {
  field: Field; kind: Kind; settings: Settings; others: { index: number; name: string }[]; unit: string; onSet: (part: Partial<Settings>) => void;
}) {
  switch (field) {
    case 'axis': return <Select label="Between" choices={AXES} value={settings.axis} onChoose={axis => onSet({ axis })} />;
    case 'rule': return <Select label="Which parts stay" choices={RULES} value={settings.rule} onChoose={rule => onSet({ rule })} />;
    case 'combination': return <Select label="How" choices={COMBINATIONS} value={settings.combination} onChoose={combination => onSet({ combination })} />;
    case 'other': return <Select label="The other segment" choices={others.map(each => ({ value: each.index, label: each.name }))} value={settings.other ?? others[0]?.index ?? 0} onChoose={other => onSet({ other })} />;
    case 'by_slice': return <Check label="slice by slice" value={settings.by_slice} onSet={by_slice => onSet({ by_slice })} />;
    case 'range': return <Check label="brightness given" value={settings.isRangeGiven} onSet={isRangeGiven => onSet({ isRangeGiven })} />;
    default: return <Figure field={field} kind={kind} settings={settings} unit={unit} onSet={onSet} />;
  }
}

function Figure({ field, kind, settings, unit, onSet }: { field: Numbered; kind: Kind; settings: Settings; unit: string; onSet: (part: Partial<Settings>) => void }) {
  const isDistance = field === 'distance_mm';
  const before = field === 'low' ? 'from' : field === 'high' ? 'to' : '';
  const after = isDistance ? 'mm' : field === 'volume_ml' ? 'ml' : unit;
  const put = (value: number) => onSet(isDistance ? { distance_mm: { ...settings.distance_mm, [kind]: value } } : { [field]: value });
  return (
    <label class="as-row">{before && <span class="as-quiet">{before}</span>}
      <input type="number" step="any" aria-label={`${before} ${after}`.trim() || field} value={isDistance ? settings.distance_mm[kind] : settings[field]} onInput={event => put(event.currentTarget.valueAsNumber)} />
      <span class="as-quiet">{after}</span></label>
  );
}

function Select<T extends string | number>({ label, choices, value, onChoose }: { label: string; choices: Choice<T>[]; value: T; onChoose: (value: T) => void }) {
  return (
    <select aria-label={label} value={String(value)} onChange={event => onChoose(choices[event.currentTarget.selectedIndex]!.value)}>
      {choices.map(each => <option key={each.value} value={String(each.value)}>{each.label}</option>)}
    </select>
  );
}

function Check({ label, value, onSet }: { label: string; value: boolean; onSet: (value: boolean) => void }) {
  return <label class="as-row"><input type="checkbox" checked={value} onChange={event => onSet(event.currentTarget.checked)} /> {label}</label>;
}
