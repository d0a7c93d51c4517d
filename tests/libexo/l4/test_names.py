"""The formats part of the convenience interface, name by name."""

import pytest

from libexo import l4

NAMES = {
    "thread": """GlobalId Version ThreadNo IsThreadEqual IsThreadNotEqual IsNilThread IsLocalId IsGlobalId nilthread
        anythread anylocalthread""",
    "control registers": """MyGlobalId MyLocalId Myself ProcessorNo UserDefinedHandle Set_UserDefinedHandle Pager
        Set_Pager ExceptionHandler Set_ExceptionHandler ErrorCode ErrorCode_String XferTimeouts Set_XferTimeouts
        IntendedReceiver ActualSender Set_VirtualSender WordSizeMask Reset_WordSizeMask Set_CopFlag Clr_CopFlag
        EnablePreemption DisablePreemption EnablePreemptionFaultException DisablePreemptionFaultException
        PreemptionPending""",
    "tag and registers": """Niltag Label UntypedWords TypedWords Set_Label MsgTagAddLabel MsgTagAddLabelTo
        IsMsgTagEqual MsgTag Set_MsgTag LoadMR LoadMRs StoreMR StoreMRs LoadBR LoadBRs StoreBR StoreBRs Timeouts
        IpcSucceeded IpcFailed IpcPropagated IpcRedirected IpcXcpu Set_Propagation""",
    "message object": """MsgPut MsgGet MsgMsgTag Set_MsgMsgTag MsgLabel Set_MsgLabel MsgLoad MsgStore MsgClear
        MsgAppendWord MsgAppendMapItem MsgAppendGrantItem MsgAppendSimpleStringItem MsgAppendStringItem
        MsgAppendCtrlXferItem AppendFaultConfCtrlXferItems MsgPutWord MsgPutMapItem MsgPutGrantItem
        MsgPutSimpleStringItem MsgPutStringItem MsgPutCtrlXferItem MsgWord MsgGetWord MsgGetMapItem
        MsgGetGrantItem MsgGetStringItem MsgGetCtrlXferItem""",
    "items": """MapItem IsMapItem MapItemSndFpage MapItemSndBase GrantItem IsGrantItem GrantItemSndFpage
        GrantItemSndBase StringItem IsStringItem CompoundString Substrings Substring AddSubstringTo
        AddSubstringAddressTo IsCtrlXferItem CtrlXferItemInit UseDefaultCacheAllocation CacheAlloctionHint
        AddCacheAllocationHint AddCacheAllocationHintTo AllocateNewCacheLines DoNotAllocateNewCacheLines
        AllocateOnlyNewL1CacheLines""",
    "acceptors": """UntypedWordsAcceptor StringItemsAcceptor CtrlXferAcceptor MapGrantItems AddAcceptor
        AddAcceptorTo RemoveAcceptor RemoveAcceptorFrom HasStringItems HasMapGrantItems RcvWindow Accept
        AcceptStrings Accepted MsgBufferClear MsgBufferAppendSimpleRcvString MsgBufferAppendRcvString""",
    "fpage": """Nilpage CompleteAddressSpace Fpage FpageLog2 Address Size SizeLog2 Rights Set_Rights FpageAddRights
        FpageAddRightsTo FpageRemoveRights FpageRemoveRightsFrom IsNilFpage NoAccess eXecutable Writable Readable
        ReadeXecOnly ReadWriteOnly FullyAccessible WasWritten WasReferenced WaseXecuted IoFpage IoFpageLog2
        IoFpagePort IoFpageSize IoFpageSizeLog2 IsIoFpage""",
    "time": """Never ZeroTime TimePeriod TimePoint ClockAddUsec ClockSubUsec IsClockEarlier IsClockLater
        IsClockEqual IsClockNotEqual""",
    "errors": """ErrOk ErrNoPrivilege ErrInvalidThread ErrInvalidSpace ErrInvalidScheduler ErrInvalidParam
        ErrUtcbArea ErrKipArea ErrNoMem ERROR_OK ERROR_NO_PRIVILEGE ERROR_INVALID_THREAD ERROR_INVALID_SPACE
        ERROR_INVALID_SCHEDULER ERROR_INVALID_PARAM ERROR_UTCB_AREA ERROR_KIP_AREA ERROR_NO_MEM""",
    "types": "ThreadId MsgTag Fpage MapItem GrantItem StringItem CtrlXferItem Acceptor MsgBuffer Msg Time",
}


@pytest.mark.parametrize("group", NAMES)
def test_the_names_of_x2(group: str) -> None:
    """Each name of the group is in `l4`, without the prefix L4_."""
    assert [name for name in NAMES[group].split() if not hasattr(l4, name)] == []
