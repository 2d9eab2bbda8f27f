// The viewer's settings. A plugin that cannot be loaded is left out, and the stock viewer still runs.
(() => {
  const base = '/viewer/';
  const hidden = ['longitudinal', 'basic', 'segmentation', 'tmtv', 'microscopy', 'preclinical-4d', 'ultrasound-pleura-bline'];
  const settings = {
    name: 'annotate-server',
    routerBasename: base,
    showStudyList: true,
    // a series of unknown modality is no film: without this its player lies over the images
    customizationService: [{ autoCineModalities: { $set: [] } }],
    // the modes that are not for annotation stay loadable but leave the list of studies
    modesConfiguration: Object.fromEntries(hidden.map(name => [`@ohif/mode-${name}`, { hide: { $set: true } }])),
    investigationalUseDialog: { option: 'never' },
    // with the default the first press in another pane only activates it: a stroke or a click would be lost
    activateViewportBeforeInteraction: false,
    maxNumberOfWebWorkers: 3,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: false,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    defaultDataSourceName: 'server',
    dataSources: [{
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'server',
      configuration: {
        friendlyName: 'This server', name: 'server', qidoRoot: '/dicomweb', wadoRoot: '/dicomweb', wadoUriRoot: '/dicomweb',
        qidoSupportsIncludeField: true, supportsReject: false, imageRendering: 'wadors', thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true, omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true },
      },
    }],
  };
  const loaded = async name => {
    try {
      return [(await import(`${base}plugin/${name}.js`)).default];
    } catch (error) {
      console.error(`${name}.js of annotate-server is left out:`, error);
      return [];
    }
  };
  window.config = async () => {
    const extensions = await loaded('extension');
    // a mode whose panel is missing would not open: it is left out with its extension
    return { ...settings, extensions, modes: extensions.length ? await loaded('mode') : [] };
  };
  window.config.routerBasename = base;
})();
