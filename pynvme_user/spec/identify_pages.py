"""Which structure each CNS of Identify brings, and what it takes (NVMe Base 2.1, figure 310)."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from .admin import Cns
from .commands import CommandSetId
from .fields import Struct
from .identify import (
    IdentifyController,
    IdentifyNamespace,
    IdentifyNamespaceIndependent,
)
from .identify_lists import (
    ControllerList,
    ControllerStateFormats,
    DomainList,
    EnduranceGroupList,
    IoCommandSets,
    NamespaceDescriptorList,
    NamespaceGranularityList,
    NamespaceList,
    NvmSetList,
    PortsList,
    PrimaryControllerCapabilities,
    SecondaryControllerList,
    UnderlyingNamespaceList,
    UuidList,
)
from .identify_nvm import IdentifyControllerNvm, IdentifyNamespaceNvm
from .identify_zns import IdentifyControllerZns, IdentifyNamespaceZns
from .lists import StructList

Structure: TypeAlias = "type[Struct] | type[StructList[Any, Any]]"


class CnsSpecific(Enum):
    """What CNSSID, bits 15:0 of dword 11, is to a CNS."""

    NVM_SET = "NVM Set Identifier, from which the list begins"
    FORMAT = "Format Index"
    DOMAIN = "Domain Identifier, from which the list begins"
    ENDURANCE_GROUP = "Endurance Group Identifier, from which the list begins"
    ENTRY = "Index of the first entry"


@dataclass(frozen=True)
class IdentifyPage:
    """A page of Identify: its structure, its name, and the fields of the command that it takes.

    `uuid_index` is UIDX of dword 14, which says whose the vendor specific part is.
    """

    structure: Structure
    name: str
    nsid: bool = False
    cntid: bool = False
    csi: bool = False
    cnssid: CnsSpecific | None = None
    uuid_index: bool = False


_NAMESPACE_NVM = (IdentifyNamespaceNvm, "NVM Command Set Identify Namespace")
_NAMESPACE_ZNS = (IdentifyNamespaceZns, "Zoned Namespace Command Set Identify Namespace")

#: By CNS, and by CSI where that decides about the structure: None where it does not.
IDENTIFY_PAGES: dict[tuple[Cns, CommandSetId | None], IdentifyPage] = {
    (Cns.NAMESPACE, None): IdentifyPage(IdentifyNamespace, "Identify Namespace", nsid=True),
    (Cns.CONTROLLER, None): IdentifyPage(IdentifyController, "Identify Controller"),
    (Cns.ACTIVE_NAMESPACES, None): IdentifyPage(
        NamespaceList, "Active Namespace ID List", nsid=True
    ),
    (Cns.NAMESPACE_DESCRIPTORS, None): IdentifyPage(
        NamespaceDescriptorList, "Namespace Identification Descriptor List", nsid=True
    ),
    (Cns.NVM_SETS, None): IdentifyPage(NvmSetList, "NVM Set List", cnssid=CnsSpecific.NVM_SET),
    (Cns.CSI_NAMESPACE, CommandSetId.NVM): IdentifyPage(
        *_NAMESPACE_NVM, nsid=True, csi=True, uuid_index=True
    ),
    (Cns.CSI_NAMESPACE, CommandSetId.ZONED): IdentifyPage(
        *_NAMESPACE_ZNS, nsid=True, csi=True, uuid_index=True
    ),
    (Cns.CSI_CONTROLLER, CommandSetId.NVM): IdentifyPage(
        IdentifyControllerNvm, "NVM Command Set Identify Controller", csi=True
    ),
    (Cns.CSI_CONTROLLER, CommandSetId.ZONED): IdentifyPage(
        IdentifyControllerZns, "Zoned Namespace Command Set Identify Controller", csi=True
    ),
    (Cns.CSI_ACTIVE_NAMESPACES, None): IdentifyPage(
        NamespaceList, "Active Namespace ID List of a Command Set", nsid=True, csi=True
    ),
    (Cns.INDEPENDENT_NAMESPACE, None): IdentifyPage(
        IdentifyNamespaceIndependent,
        "I/O Command Set Independent Identify Namespace",
        nsid=True,
    ),
    (Cns.NAMESPACE_FORMAT, None): IdentifyPage(
        IdentifyNamespace,
        "Identify Namespace of a Format",
        csi=True,
        cnssid=CnsSpecific.FORMAT,
        uuid_index=True,
    ),
    (Cns.CSI_NAMESPACE_FORMAT, CommandSetId.NVM): IdentifyPage(
        IdentifyNamespaceNvm,
        f"{_NAMESPACE_NVM[1]} of a Format",
        csi=True,
        cnssid=CnsSpecific.FORMAT,
        uuid_index=True,
    ),
    (Cns.CSI_NAMESPACE_FORMAT, CommandSetId.ZONED): IdentifyPage(
        IdentifyNamespaceZns,
        f"{_NAMESPACE_ZNS[1]} of a Format",
        csi=True,
        cnssid=CnsSpecific.FORMAT,
        uuid_index=True,
    ),
    (Cns.ALLOCATED_NAMESPACES, None): IdentifyPage(
        NamespaceList, "Allocated Namespace ID List", nsid=True
    ),
    (Cns.ALLOCATED_NAMESPACE, None): IdentifyPage(
        IdentifyNamespace, "Identify Namespace of an Allocated Namespace", nsid=True
    ),
    (Cns.NAMESPACE_CONTROLLERS, None): IdentifyPage(
        ControllerList, "Controller List of a Namespace", nsid=True, cntid=True
    ),
    (Cns.CONTROLLERS, None): IdentifyPage(ControllerList, "Controller List", cntid=True),
    (Cns.PRIMARY_CONTROLLER_CAPABILITIES, None): IdentifyPage(
        PrimaryControllerCapabilities, "Primary Controller Capabilities", cntid=True
    ),
    (Cns.SECONDARY_CONTROLLERS, None): IdentifyPage(
        SecondaryControllerList, "Secondary Controller List", cntid=True
    ),
    (Cns.NAMESPACE_GRANULARITIES, None): IdentifyPage(
        NamespaceGranularityList, "Namespace Granularity List"
    ),
    (Cns.UUIDS, None): IdentifyPage(UuidList, "UUID List"),
    (Cns.DOMAINS, None): IdentifyPage(DomainList, "Domain List", cnssid=CnsSpecific.DOMAIN),
    (Cns.ENDURANCE_GROUPS, None): IdentifyPage(
        EnduranceGroupList, "Endurance Group List", cnssid=CnsSpecific.ENDURANCE_GROUP
    ),
    (Cns.CSI_ALLOCATED_NAMESPACES, None): IdentifyPage(
        NamespaceList, "Allocated Namespace ID List of a Command Set", nsid=True, csi=True
    ),
    (Cns.CSI_ALLOCATED_NAMESPACE, CommandSetId.NVM): IdentifyPage(
        IdentifyNamespaceNvm,
        f"{_NAMESPACE_NVM[1]} of an Allocated Namespace",
        nsid=True,
        csi=True,
    ),
    (Cns.CSI_ALLOCATED_NAMESPACE, CommandSetId.ZONED): IdentifyPage(
        IdentifyNamespaceZns,
        f"{_NAMESPACE_ZNS[1]} of an Allocated Namespace",
        nsid=True,
        csi=True,
    ),
    (Cns.IO_COMMAND_SETS, None): IdentifyPage(
        IoCommandSets, "Identify I/O Command Set", cntid=True
    ),
    (Cns.UNDERLYING_NAMESPACES, None): IdentifyPage(
        UnderlyingNamespaceList,
        "Underlying Namespace List",
        nsid=True,
        cntid=True,
        cnssid=CnsSpecific.ENTRY,
    ),
    (Cns.PORTS, None): IdentifyPage(PortsList, "Ports List"),
    (Cns.INDEPENDENT_ALLOCATED_NAMESPACE, None): IdentifyPage(
        IdentifyNamespaceIndependent,
        "I/O Command Set Independent Identify Namespace of an Allocated Namespace",
        nsid=True,
    ),
    (Cns.CONTROLLER_STATE_FORMATS, None): IdentifyPage(
        ControllerStateFormats, "Supported Controller State Formats"
    ),
}


def identify_page(cns: int, csi: int = CommandSetId.NVM) -> IdentifyPage | None:
    """Return the page of `cns`, for the command set `csi`; None if there is none here."""
    return next(
        (
            page
            for (page_cns, page_csi), page in IDENTIFY_PAGES.items()
            if page_cns == cns and page_csi in (None, csi)
        ),
        None,
    )
