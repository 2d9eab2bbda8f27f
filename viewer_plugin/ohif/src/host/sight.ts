// Where somebody looks: which slice the panes show, what is under the pointer, and how the keys go through the slices.

/** The panes that show slices, the images of slices 0, 1, … of the case, and the pane that is active. */
export interface Ground { panes(): any[]; images(): string[]; active(): any; activate(id: string): void }

export class Sight {
  constructor(private readonly cs: any, private readonly ground: Ground) {}

  /** The slice that is shown as acquired, counted from 0; null where none is. */
  sliceShown(): number | null {
    for (const pane of [this.ground.active(), ...this.ground.panes()]) {
      const k = this.sliceOf(pane);
      if (k >= 0) return k;
    }
    return null;
  }

  /** Where the pane with the slices as acquired stands, in its own counting, which it also shows: "40 of 60". */
  position(): string {
    const pane = this.ground.panes().find(each => this.sliceOf(each) >= 0);
    const index = pane?.getSliceIndex?.() ?? pane?.getCurrentImageIdIndex?.();
    return typeof index === 'number' ? `${index + 1} of ${pane.getNumberOfSlices?.() ?? this.ground.images().length}` : '';
  }

  /** The intensity at a voxel, in the volume's unit; null where its image is not there yet. */
  intensity([k, j, i]: readonly [number, number, number]): number | null {
    const image = this.cs.cache.getImage(this.ground.images()[k] ?? '');
    return image?.voxelManager?.getScalarData()?.[j * image.columns + i] ?? null;
  }

  /** Be told of every press on an image: the place (LPS mm) under it. */
  onPress(listener: (place: number[]) => void): () => void {
    const pressed = ({ target, clientX, clientY }: PointerEvent) => {
      const pane = this.ground.panes().find(each => each?.element?.contains(target as Node));
      if (!pane) return;
      const { left, top } = pane.element.getBoundingClientRect();
      listener([...pane.canvasToWorld([clientX - left, clientY - top])]);
    };
    window.addEventListener('pointerdown', pressed, { capture: true });
    return () => window.removeEventListener('pointerdown', pressed, { capture: true });
  }

  /** Make the next pane the active one, whose slices the keys go through. */
  nextPane(): void {
    const panes = this.ground.panes();
    const next = panes[(panes.indexOf(this.ground.active()) + 1) % panes.length];
    if (next) this.ground.activate(next.id);
  }

  /** So many slices on or back in the active pane. */
  scroll(by: number): void {
    const pane = this.ground.active();
    if (pane) this.cs.utilities.scroll(pane, { delta: by });
  }

  private sliceOf(pane: any): number {
    return this.ground.images().indexOf(pane?.getCurrentImageId?.() ?? '');
  }
}
