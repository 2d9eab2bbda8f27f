// What the viewer takes in: our panel and our panes.
import { hostComponent, type Host } from './host/element';
import { describeStudies, PANES } from './host/panes';
import { mountPanel } from './ui/panel';

export default {
  id: '@annotate-server/extension',
  preRegistration({ servicesManager }: Host) {
    describeStudies(servicesManager.services);
  },
  getPanelModule(host: Host) {
    return [{ name: 'annotate', iconName: 'tab-segmentation', iconLabel: 'Annotate', label: 'Annotate', component: hostComponent(host, element => mountPanel(host, element)) }];
  },
  getHangingProtocolModule() {
    return [{ name: PANES.id, protocol: PANES }];
  },
};
