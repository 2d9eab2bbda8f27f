// The panes that a case opens in: slices as acquired, large, and the two other planes of the voxel grid beside it.

const COLOURS = { type: 'voi', id: 'annotate', source: true, target: true, options: { syncColormap: true } };
const OVERLAYS = { type: 'hydrateseg', id: 'sameFORId', source: true, target: true, options: { matchingRules: ['sameFOR'] } };
const HAS_VOLUME = 'annotateHasVolume';
const THIRD = 1 / 3;

/** Where a protocol is given alone it is used even for series that make no volume; by this one declines. */
export function describeStudies(services: any): void {
  services.hangingProtocolService.addCustomAttribute(HAS_VOLUME, 'has a series that makes a volume',
    (_study: unknown, options: any) => (options?.displaySets ?? []).some((each: any) => each.isReconstructable));
}

// planes of the grid, not of the patient: in an oblique series a stroke in a patient plane cuts through several slices
const pane = (name: string, orientation: string) => ({
  viewportOptions: { viewportId: `annotate-${name}`, toolGroupId: 'mpr', viewportType: 'volume', orientation,
    initialImageOptions: { preset: 'middle' }, syncGroups: [COLOURS, OVERLAYS] },
  displaySets: [{ id: 'volume' }],
});

export const PANES = {
  id: '@annotate-server/panes', name: 'Annotate', locked: true, isPreset: false,
  protocolMatchingRules: [{ weight: 100, attribute: HAS_VOLUME, constraint: { equals: { value: true } }, required: true }],
  imageLoadStrategy: 'nth', numberOfPriorsReferenced: 0, callbacks: {}, availableTo: {}, editableBy: {}, toolGroupIds: ['default', 'mpr'],
  displaySetSelectors: {
    volume: { seriesMatchingRules: [{ weight: 10, attribute: 'isReconstructable', constraint: { equals: { value: true } }, required: true }] },
    images: { seriesMatchingRules: [{ attribute: 'numImageFrames', constraint: { greaterThan: { value: 0 } }, required: true }] },
  },
  stages: [
    {
      name: 'planes', stageActivation: { enabled: { minViewportsMatched: 1 } },
      viewportStructure: { layoutType: 'grid', properties: { rows: 2, columns: 3, layoutOptions: [
        { x: 0, y: 0, width: 2 * THIRD, height: 1 }, { x: 2 * THIRD, y: 0, width: THIRD, height: 0.5 }, { x: 2 * THIRD, y: 0.5, width: THIRD, height: 0.5 },
      ] } },
      viewports: [pane('slices', 'acquisition'), pane('sagittal', 'sagittal_reformat'), pane('coronal', 'coronal_reformat')],
    },
    {
      name: 'stack', viewportStructure: { layoutType: 'grid', properties: { rows: 1, columns: 1 } },
      viewports: [{ viewportOptions: { viewportId: 'annotate-stack', toolGroupId: 'default', viewportType: 'stack', syncGroups: [] }, displaySets: [{ id: 'images' }] }],
    },
  ],
};
