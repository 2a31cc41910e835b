"""Where each field of a log page lies, as the specification's figures have it."""

from __future__ import annotations

import pytest
from spec_classes import STRUCT_CLASSES

from pynvme_user.spec.fields import Struct

# A class and its size in bytes; then each field's name, offset and size.
LAYOUTS = """
ErrorLogEntry 64: ecnt 0 8, sqid 8 2, cid 10 2, sts 12 2, pel 14 2, lba 16 8, nsid 24 4,
    vsia 28 1, trtype 29 1, csi 30 1, opc 31 1, csinfo 32 8, ttsi 40 2, lpver 63 1
SmartLog 512: cw 0 1, ctemp 1 2, avsp 3 1, avspt 4 1, pused 5 1, egcws 6 1, dur 32 16, duw 48 16,
    hrc 64 16, hwc 80 16, cbt 96 16, pwrc 112 16, poh 128 16, upl 144 16, mdie 160 16,
    neile 176 16, wctt 192 4, cctt 196 4, tsen 200 16, tmt1tc 216 4, tmt2tc 220 4, tttmt1 224 4,
    tttmt2 228 4
FirmwareSlotLog 512: afi 0 1, frs1 8 8, frs2 16 8, frs3 24 8, frs4 32 8, frs5 40 8, frs6 48 8,
    frs7 56 8
SelfTestResult 28: dsts 0 1, segnum 1 1, vdinfo 2 1, poh 4 8, nsid 12 4, flba 16 8, sct 24 1,
    sc 25 1, vs 26 2
SelfTestLog 564: cdsto 0 1, cdstc 1 1, results 4 560
EnduranceGroupLog 512: cw 0 1, egfeat 1 1, avsp 3 1, avspt 4 1, pused 5 1, did 6 2, ee 32 16,
    dur 48 16, duw 64 16, muw 80 16, hrc 96 16, hwc 112 16, mdie 128 16, neile 144 16,
    tegcap 160 16, uegcap 176 16
RotationalMediaLog 512: endgid 0 2, numa 2 2, nrs 4 2, spinc 8 4, fspinc 12 4, ldc 16 4, fldc 20 4
SanitizeLog 512: sprog 0 2, sstat 2 2, scdw10 4 4, eto 8 4, etbe 12 4, etce 16 4, etond 20 4,
    etbend 24 4, etcend 28 4, etpvds 32 4, ssi 36 1
SupportedLogPages 1024: lids 0 1024
CommandEffectsLog 4096: acs 0 1024, iocs 1024 1024
FeatureEffectsLog 1024: fis 0 1024
MiCommandEffectsLog 4096: mics 0 1024
LockdownHeader 4: cfila 0 1, lngth 3 1
AnaGroupHeader 32: agid 0 4, nnv 4 4, chgc 8 8, anasa 16 1
AnaHeader 16: chgc 0 8, nagd 8 2
LbaStatusRange 16: rslba 0 8, rnlb 8 4
LbaStatusNamespaceHeader 16: neid 0 4, nlrd 4 4, ratype 8 1
LbaStatusHeader 16: lslplen 0 4, nlslne 4 4, estulb 8 4, lsgc 14 2
DispersedNamespaceHeader 256: genctr 0 8, numpsub 8 8
ParticipatingSubsystem 256: subnqn 0 256
ReachabilityGroupHeader 32: rgid 0 4, nnid 4 4, chngc 8 8
ReachabilityGroupsHeader 16: chngc 0 8, nrgd 8 2
ReachabilityAssociationHeader 32: rasid 0 4, nrid 4 4, chngc 8 8, rac 16 1
ReachabilityAssociationsHeader 16: chngc 0 8, nrad 8 2
ReservationNotificationLog 64: lpc 0 8, rnlpt 8 1, nalp 9 1, nsid 12 4
ChangedZonesHeader 8: nrzid 0 2
PredictableLatencyLog 512: stat 0 1, et 2 2, dtwinrt 32 8, dtwinwt 40 8, dtwintm 48 8,
    ndwintmh 56 8, ndwintml 64 8, dtwinre 128 8, dtwinwe 136 8, dtwinte 144 8
AggregateHeader 8: ne 0 8
MediaUnitStatusHeader 14: muid 0 2, did 2 2, endgid 4 2, nvmsetid 6 2, caf 8 2, avsp 10 1,
    pused 11 1, mucs 12 1, cio 13 1
MediaUnitStatusLogHeader 16: nmu 0 2, cchans 2 2, selc 4 2
MediaUnitConfigurationHeader 8: muid 0 2, mudl 6 2
ChannelConfigurationHeader 4: chid 0 2, chmus 2 2
ChannelsHeader 2: egchans 0 2
EnduranceGroupConfigurationHeader 82: endgid 0 2, cadjf 2 2, tegcap 16 16, segcap 32 16, ee 48 16,
    egsets 80 2
CapacityConfigurationHeader 32: ccid 0 2, did 2 2, egcn 4 2
CapacityConfigurationListHeader 16: sccn 0 1
TelemetryHostHeader 512: lid 0 1, ieee 5 3, da1lb 8 2, da2lb 10 2, da3lb 12 2, da4lb 16 4,
    ths 380 1, thdgn 381 1, tcda 382 1, tcdgn 383 1, rid 384 128
TelemetryControllerHeader 512: lid 0 1, ieee 5 3, da1lb 8 2, da2lb 10 2, da3lb 12 2, da4lb 16 4,
    tcs 381 1, tcda 382 1, tcdgn 383 1, rid 384 128
BootPartitionHeader 16: lid 0 1, bpinfo 4 4
EomHeader 64: lid 0 1, eomip 1 1, hsize 2 2, rsz 4 4, edgn 8 1, lrev 9 1, odp 10 1, lns 11 1,
    epl 12 1, lspfc 13 1, linfo 14 1, lsic 18 2, ds 20 4, nd 24 2, maxtb 26 2, maxlr 28 2,
    etgood 30 2, etbetter 32 2, etbest 34 2
EomLaneHeader 32: mstat 1 1, ln 2 1, eye 3 1, top 4 2, btm 6 2, lft 8 2, rgt 10 2, nrows 12 2,
    ncols 14 2, edlen 16 4
FirmwareCommitEvent 22: ofr 0 8, nfr 8 8, fca 16 1, fslt 17 1, stctfcc 18 1, srfcc 19 1,
    vafcrc 20 2
TimestampChangeEvent 16: ptstp 0 8, msr 8 8
ControllerReset 36: cntlid 0 2, fa 2 1, oip 3 1, cpwrc 16 4, pom 20 8, ctstp 28 8
PowerOnOrResetHeader 8: frev 0 8
HardwareErrorHeader 4: nsheec 0 2
ChangeNamespaceEvent 48: nmcdw10 0 4, nsze 8 8, ncap 24 8, flbas 32 1, dps 33 1, nmic 34 1,
    anagrpid 36 4, nvmsetid 40 2, endgid 42 2, nsid 44 4
FormatStartEvent 12: nsid 0 4, fna 4 1, fcdw10 8 4
FormatCompletionEvent 12: nsid 0 4, sfpi 4 1, fnvms 5 1, cinfo 6 2, info 8 2
SanitizeStartEvent 12: sanicap 0 4, scdw10 4 4, scdw11 8 4
SanitizeCompletionEvent 8: sprog 0 2, sstat 2 2, cinfo 4 2
SetFeatureHeader 4: sfel 0 4
ThermalExcursionEvent 2: otmp 0 1, thresh 1 1
VendorEventHeader 6: vsec 0 2, vsedt 2 1, uidx 3 1, vsedl 4 2
PersistentEventHeader 24: et 0 1, etr 1 1, ehl 2 1, ehai 3 1, cntlid 4 2, etstmp 6 8, pelpid 14 2,
    vsil 20 2, el 22 2
PersistentEventLogHeader 512: lid 0 1, tnev 4 4, tll 8 8, lrev 16 1, lhl 18 2, tstmp 20 8,
    poh 28 16, pwrcc 44 8, vid 52 2, ssvid 54 2, sn 56 20, mn 76 40, subnqn 116 256, gnum 372 2,
    rci 374 4, seb 480 32
ReclaimUnitHandle 4: ruht 0 1
FdpConfigurationHeader 64: dsze 0 2, fdpa 2 1, vss 3 1, nrg 4 4, nruh 8 2, maxpids 10 2,
    nnss 12 4, runs 16 8, erutl 24 4
FdpConfigurationsHeader 16: numfdpc 0 2, ver 2 1, sze 4 4
ReclaimUnitHandleUsage 8: ruha 0 1
ReclaimUnitHandleUsageHeader 8: nruh 0 2
FdpStatisticsLog 64: hbmw 0 16, mbmw 16 16, mbe 32 16
MediaReallocated 16: sef 0 1, nlbam 2 2, lba 4 8
FdpEvent 64: etyp 0 1, fdpef 1 1, pid 2 2, etmsp 4 8, nsid 12 4, etsp 16 16, rgid 32 2,
    ruhid 34 2, vs 40 24
FdpEventsHeader 64: numfdpe 0 4
RdmaAddress 256: qptype 0 1, prtype 1 1, cms 2 1, pkey 8 2
TcpAddress 256: sectype 0 1
DiscoveryEntry 1024: trtype 0 1, adrfam 1 1, subtype 2 1, treq 3 1, portid 4 2, cntlid 6 2,
    asqsz 8 2, eflags 10 2, trsvcid 32 32, subnqn 256 256, traddr 512 256, tsas 768 256
DiscoveryHeader 1024: genctr 0 8, numrec 8 8, recfmt 16 2, dlpf 18 1, tdlpl 20 4
ExtendedAttributeHeader 4: exattype 0 2, exatlen 2 2
ExtendedDiscoveryEntryHeader 1032: trtype 0 1, adrfam 1 1, subtype 2 1, treq 3 1, portid 4 2,
    cntlid 6 2, asqsz 8 2, eflags 10 2, trsvcid 32 32, subnqn 256 256, traddr 512 256,
    tsas 768 256, tel 1024 4, numexat 1028 2
HostDiscoveryEntryHeader 1032: trtype 0 1, adrfam 1 1, eflags 10 2, hostnqn 256 256,
    traddr 512 256, tsas 768 256, tel 1024 4, numexat 1028 2
HostDiscoveryHeader 1024: genctr 0 8, numrec 8 8, recfmt 16 2, hdlpf 18 1, thdlpl 20 4
AveTransportRecord 20: aveadrfam 0 1, avetrsvcid 2 2, avetraddr 4 16
AveDiscoveryEntryHeader 232: tel 0 4, avenqn 4 224, numatr 228 1
AveDiscoveryHeader 1024: genctr 0 8, numrec 8 8, recfmt 16 2, tadlpl 20 4
PullModelDdcRequestHeader 8: ori 0 1, tpdrpl 4 4
ManagementAddress 512: mat 0 1, madrs 4 508
ManagementAddressLog 4096: mads 0 4096
"""


def layouts() -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for part in LAYOUTS.replace("\n    ", " ").strip().splitlines():
        head, fields = part.split(": ")
        name, size = head.split()
        found[name] = (int(size), fields)
    return found


LOG_STRUCTS = [cls for cls in STRUCT_CLASSES if ".logs_" in cls.__module__]


@pytest.mark.parametrize("cls", LOG_STRUCTS, ids=lambda cls: str(cls.__name__))
def test_each_field_lies_where_the_specification_has_it(cls: type[Struct]) -> None:
    declared = ", ".join(f"{f.name} {f.offset} {f.size}" for f in cls.layout if not f.reserved)
    assert (cls.size, declared) == layouts()[cls.__name__]


def test_each_layout_is_of_a_structure() -> None:
    assert sorted(layouts()) == sorted(cls.__name__ for cls in LOG_STRUCTS)
