// The segments of the draft: which is drawn, and its name, colour, lock, sight and volume.
import { useState } from 'preact/hooks';
import type { Desk, DeskState } from '../draft/desk';
import { LARGEST_INDEX } from '../draft/desk';
import type { Longest } from '../draft/diameter';
import type { CaseView, SegmentView } from '../server/types';
import { Icon } from './icons';

export const COLOURS: [number, number, number][] = [[244, 214, 49], [0, 151, 206], [216, 101, 79], [128, 174, 128], [183, 156, 220], [221, 130, 101], [144, 238, 144], [255, 181, 158]];

const hex = (colour: number[]) => `#${colour.map(part => part.toString(16).padStart(2, '0')).join('')}`;
const parsed = (text: string): [number, number, number] => [1, 3, 5].map(at => parseInt(text.slice(at, at + 2), 16)) as [number, number, number];

function Diameter({ of, longest, onLongest }: { of: SegmentView; longest: Longest | undefined; onLongest: (index: number, at: Longest) => void }) {
  if (!longest) return null;
  const words = `${longest.mm >= 100 ? longest.mm.toFixed(0) : longest.mm.toFixed(1)} mm`;
  return <> ·<button class="as-plain" aria-label={`Longest diameter of ${of.name}: ${words}; show its slice`} title="Longest diameter within one slice as acquired; press to see it" onClick={() => onLongest(of.index, longest)}>⌀ {words}</button></>;
}

export function Segments({ desk, state, active, hidden, found, longest, onActive, onHidden, onLongest }: {
  desk: Desk; state: DeskState; active: number; hidden: Set<number>; found: CaseView; longest: ReadonlyMap<number, Longest>;
  onActive: (index: number) => void; onHidden: (index: number) => void; onLongest: (index: number, at: Longest) => void;
}) {
  const [name, setName] = useState('');
  const [renamed, setRenamed] = useState(0);
  const voxelMl = (found.geometry?.spacing_mm ?? [0, 0, 0]).reduce((product, side) => product * side, 1) / 1000;
  const volume = (segment: SegmentView) => {
    const ml = (state.counts.get(segment.index) ?? 0) * voxelMl;
    return ml === 0 ? '' : `${ml >= 100 ? ml.toFixed(0) : ml.toFixed(ml >= 1 ? 1 : 2)} ml`;
  };
  const add = async (event: Event) => {
    event.preventDefault();
    const taken = new Set(state.segments.map(each => each.index));
    let index = 1;
    while (taken.has(index)) index++;
    if (!name.trim() || index > LARGEST_INDEX) return;
    if (await desk.addSegment({ index, name: name.trim(), colour: COLOURS[(index - 1) % COLOURS.length]! })) { setName(''); onActive(index); }
  };
  const rename = async (segment: SegmentView, to: string) => {
    setRenamed(0);
    if (to.trim() && to.trim() !== segment.name) await desk.alterSegment(segment.index, { name: to.trim() });
  };
  const toggled = (index: number) => state.locked.includes(index) ? state.locked.filter(each => each !== index) : [...state.locked, index];

  return (
    <section aria-labelledby="as-segments">
      <h2 id="as-segments">Segments</h2>
      <ul class="as-list" aria-label="Segments">
        {state.segments.map(segment => {
          const isLocked = state.locked.includes(segment.index);
          return (
            <li key={segment.index} class="as-item" aria-current={segment.index === active ? 'true' : undefined}>
              <input class="as-colour" type="color" aria-label={`Colour of ${segment.name}`} value={hex(segment.colour)} onChange={event => void desk.alterSegment(segment.index, { colour: parsed(event.currentTarget.value) })} />
              {renamed === segment.index
                ? <input class="as-grow" type="text" aria-label="New name" value={segment.name} maxLength={200} ref={input => input?.focus()}
                    onBlur={event => void rename(segment, event.currentTarget.value)} onKeyDown={event => { if (event.key === 'Enter') void rename(segment, event.currentTarget.value); if (event.key === 'Escape') setRenamed(0); }} />
                : <div class="as-named">
                    <button class="as-plain as-grow" data-cy={`as-segment-${segment.index}`} title={`${segment.name}; double click renames`} onClick={() => onActive(segment.index)} onDblClick={() => setRenamed(segment.index)}>{segment.name}</button>
                    {volume(segment) && <div class="as-figures" data-cy={`as-figures-${segment.index}`}>{volume(segment)}<Diameter of={segment} longest={longest.get(segment.index)} onLongest={onLongest} /></div>}
                  </div>}
              {segment.index === active && <button class="as-plain" title="Rename" aria-label={`Rename ${segment.name}`} onClick={() => setRenamed(segment.index)}><Icon of="rename" /></button>}
              <button class="as-plain" title="Hide" aria-pressed={hidden.has(segment.index)} aria-label={`Hide ${segment.name}`} onClick={() => onHidden(segment.index)}><Icon of={hidden.has(segment.index) ? 'hidden' : 'seen'} /></button>
              <button class="as-plain" title="Lock" data-cy={`as-lock-${segment.index}`} aria-pressed={isLocked} aria-label={`Lock ${segment.name}`} onClick={() => void desk.lock(toggled(segment.index))}><Icon of={isLocked ? 'locked' : 'free'} filled={isLocked} /></button>
              {segment.index === active && <button class="as-plain" title="Delete" data-cy="as-delete" aria-label={`Delete ${segment.name}`} disabled={isLocked} onClick={() => void desk.removeSegment(segment.index)}><Icon of="remove" /></button>}
            </li>
          );
        })}
      </ul>
      {!state.segments.length && <p>Add a segment to draw or prompt for, or let an app draft.</p>}
      <form class="as-row" onSubmit={add}>
        <input class="as-grow" type="text" aria-label="Name of a new segment" placeholder="New segment" maxLength={200} value={name} onInput={event => setName(event.currentTarget.value)} />
        <button data-cy="as-add-segment" disabled={!name.trim()}>Add</button>
      </form>
    </section>
  );
}
