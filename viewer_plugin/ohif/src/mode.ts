// The mode: the viewer's own segmentation mode, with our panel first and our panes.
export const PANEL = '@annotate-server/extension.panelModule.annotate';
const PANEL_WIDTH_PX = 330;

export default {
  id: '@annotate-server/mode',
  async modeFactory({ loadModules }: { loadModules: (names: string[]) => Promise<any[]> }) {
    const [segmentation, basic] = await loadModules(['@ohif/mode-segmentation', '@ohif/mode-basic']);
    const base = segmentation.modeInstance;
    const route = base.routes[0];
    const layout = route.layoutInstance;
    return {
      ...base,
      id: '@annotate-server/mode',
      routeName: 'annotate',
      displayName: 'Annotate',
      hide: false,
      isValidMode: ({ modalities }: { modalities: string }) => ({
        valid: !/^(SEG|SR|RTSTRUCT|SM|ECG|DOC)?$/.test(modalities), description: 'There are no images in this study.',
      }),
      // a list: one name alone is used even where none of its panes fit
      hangingProtocol: ['@annotate-server/panes', 'default'],
      // our extension is not named in `extensions`: it is registered, and the viewer would import it by that name
      // the viewer's own list of segments is left out: it would change segments that the server knows nothing of
      routes: [{
        ...route, path: 'annotate',
        layoutInstance: { ...layout, props: { ...layout.props, rightPanels: [PANEL], rightPanelClosed: false, rightPanelInitialExpandedWidth: PANEL_WIDTH_PX, rightPanelMinimumExpandedWidth: PANEL_WIDTH_PX, leftPanelClosed: true } },
      }],
      // without the segmentation mode's changing of panels
      onModeEnter: basic.modeInstance.onModeEnter,
      onModeExit: basic.modeInstance.onModeExit,
    };
  },
};
