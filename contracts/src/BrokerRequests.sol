// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IBrokerRequests} from "./interfaces/IBrokerRequests.sol";
import {DataContracts} from "./lib/DataContracts.sol";
import {NftProbe} from "./lib/NftProbe.sol";

/// @title Where a host asks one broker for IPv6 space, and where the broker answers. See IBrokerRequests.
/// @dev One rule holds it together: a request is Pending or Approved exactly while `nftContractToRequestId` names it.
/// Whatever takes a request out of the mapping makes it Expired in the same step (`_close`), so "is it still the live
/// one?" is answered by its status alone, and nothing can be answered, expired or released twice.
///
/// The NFT contract is foreign code. It is asked only through STATICCALL (NftProbe), under which nothing here can be
/// re-entered with effect, and before anything is written. Ownership moves in two steps (acceptOwnership()).
contract BrokerRequests is IBrokerRequests, Ownable2Step {
    using DataContracts for DataContracts.Buffer;

    /// @dev Written when the request is made and when it ends.
    struct Submission {
        address requester;
        uint32 submittedAt;
        uint32 closedAt; // 0 while live
        uint32 payloadNonce; // the data contract that holds the payload alone
    }

    /// @dev The only slot an answer writes.
    struct State {
        address nftContract;
        RequestStatus status;
        uint24 answeredAfter; // seconds after submittedAt: at most MAX_EXPIRATION, which is below 2^20
        uint32 responseNonce; // the data contract that holds the response, perhaps among others
        uint16 responseOffset;
        uint16 responseLength; // 0 = not answered
    }

    /// @dev Two slots.
    struct StoredRequest {
        Submission submission;
        State state;
    }

    /// @dev One slot, which nearly every transaction touches anyway.
    struct Counters {
        uint40 requests;
        uint40 pending;
        uint40 active;
        uint40 released;
        uint32 dataContracts; // also this contract's nonce of the latest, as it creates nothing else
        uint32 expirationTime;
    }

    uint256 private constant MAX_PAYLOAD = 4096;
    uint256 private constant MAX_EXPIRE_IDS = 256;
    uint256 private constant MIN_EXPIRATION = 1 hours;
    uint256 private constant MAX_EXPIRATION = 7 days;

    Counters private _counters;
    /// @inheritdoc IBrokerRequests
    uint256 public override requestFee;
    /// @inheritdoc IBrokerRequests
    uint256 public override totalCapacity;
    mapping(uint256 requestId => StoredRequest) private _requests;
    /// @inheritdoc IBrokerRequests
    mapping(address nftContract => uint256 requestId) public override nftContractToRequestId;
    mapping(address requester => uint40[] requestIds) private _requesterToRequestIds;

    constructor() Ownable(msg.sender) {
        _counters.expirationTime = 24 hours;
    }

    /// @inheritdoc IBrokerRequests
    function submitRequest(address nftContract, bytes calldata encryptedPayload)
        external
        payable
        returns (uint256 requestId)
    {
        if (msg.value != requestFee) revert WrongFee(msg.value, requestFee);
        _checkPayload(encryptedPayload.length);
        _checkNftOwner(nftContract);

        Counters memory counters = _counters;
        uint256 superseded = nftContractToRequestId[nftContract];
        if (superseded != 0) {
            _close(counters, superseded);
            emit RequestExpired(superseded);
        } else {
            _checkCapacity(counters);
        }

        counters.pending++;
        counters.dataContracts++;
        requestId = ++counters.requests;
        StoredRequest storage request = _requests[requestId];
        request.submission = Submission({
            requester: msg.sender,
            submittedAt: SafeCast.toUint32(block.timestamp),
            closedAt: 0,
            payloadNonce: counters.dataContracts
        });
        request.state.nftContract = nftContract;
        nftContractToRequestId[nftContract] = requestId;
        _requesterToRequestIds[msg.sender].push(counters.requests);
        _counters = counters;
        DataContracts.store(encryptedPayload);
        emit RequestSubmitted(requestId, msg.sender, nftContract, encryptedPayload);
    }

    /// @inheritdoc IBrokerRequests
    function submitResponse(uint256 requestId, bytes calldata responsePayload) external onlyOwner {
        _checkPayload(responsePayload.length);
        Counters memory counters = _counters;
        _checkId(requestId, counters.requests);
        RequestStatus status = _requests[requestId].state.status;
        if (status != RequestStatus.Pending) revert RequestNotPending(requestId, status);
        uint256 expiresAt = _expiresAt(counters, requestId);
        if (block.timestamp > expiresAt) revert RequestOutOfTime(requestId, expiresAt);

        counters.dataContracts++;
        _approve(counters, requestId, 0, responsePayload);
        _counters = counters;
        DataContracts.store(responsePayload);
    }

    /// @inheritdoc IBrokerRequests
    function submitResponses(
        uint256[] calldata requestIds,
        bytes32[] calldata digests,
        bytes[] calldata responsePayloads
    ) external onlyOwner {
        if (requestIds.length != digests.length || requestIds.length != responsePayloads.length) {
            revert LengthMismatch(requestIds.length, digests.length, responsePayloads.length);
        }
        Counters memory counters = _counters;
        DataContracts.Buffer memory buffer = DataContracts.newBuffer(_checkPayloads(responsePayloads));
        for (uint256 i = 0; i < requestIds.length; i++) {
            uint256 requestId = requestIds[i];
            if (!_isAnswerable(counters, requestId, digests[i])) {
                emit ResponseSkipped(requestId);
                continue;
            }
            bytes calldata payload = responsePayloads[i];
            if (!buffer.fits(payload.length)) buffer.flush();
            // The first in a buffer opens the data contract that the flush will create.
            if (buffer.used == 0) counters.dataContracts++;
            _approve(counters, requestId, buffer.append(payload), payload);
        }
        if (buffer.used != 0) buffer.flush();
        _counters = counters;
    }

    /// @inheritdoc IBrokerRequests
    function releaseAllocation(address nftContract) external {
        uint256 requestId = nftContractToRequestId[nftContract];
        if (requestId == 0) revert NoAllocation(nftContract);
        if (msg.sender != owner()) {
            address nftOwner = NftProbe.findOwner(nftContract);
            if (msg.sender != nftOwner) revert NotNftOwner(msg.sender, nftOwner);
        }
        Counters memory counters = _counters;
        _close(counters, requestId);
        counters.released++;
        _counters = counters;
        emit AllocationReleased(requestId, nftContract, msg.sender);
    }

    /// @inheritdoc IBrokerRequests
    function markExpired(uint256[] calldata requestIds) external {
        if (requestIds.length > MAX_EXPIRE_IDS) revert TooManyIds(requestIds.length, MAX_EXPIRE_IDS);
        Counters memory counters = _counters;
        for (uint256 i = 0; i < requestIds.length; i++) {
            uint256 requestId = requestIds[i];
            if (!_isPending(counters, requestId)) continue;
            if (block.timestamp <= _expiresAt(counters, requestId)) continue;
            _close(counters, requestId);
            emit RequestExpired(requestId);
        }
        _counters = counters;
    }

    /// @inheritdoc IBrokerRequests
    function setRequestExpirationTime(uint256 expirationTime) external onlyOwner {
        if (expirationTime < MIN_EXPIRATION || expirationTime > MAX_EXPIRATION) {
            revert InvalidExpirationTime(expirationTime, MIN_EXPIRATION, MAX_EXPIRATION);
        }
        _counters.expirationTime = uint32(expirationTime);
    }

    /// @inheritdoc IBrokerRequests
    function setTotalCapacity(uint256 newTotalCapacity) external onlyOwner {
        totalCapacity = newTotalCapacity;
    }

    /// @inheritdoc IBrokerRequests
    function setRequestFee(uint256 newRequestFee) external onlyOwner {
        requestFee = newRequestFee;
        emit RequestFeeChanged(newRequestFee);
    }

    /// @inheritdoc IBrokerRequests
    function withdraw(address payable to) external onlyOwner {
        if (to == address(0)) revert ZeroAddress();
        uint256 amount = address(this).balance;
        (bool sent,) = to.call{value: amount}("");
        if (!sent) revert WithdrawFailed(to, amount);
        emit FeesWithdrawn(to, amount);
    }

    /// @notice Always reverts with OwnerRequired: without an owner nobody could answer, release or withdraw.
    function renounceOwnership() public view override onlyOwner {
        revert OwnerRequired();
    }

    /// @inheritdoc IBrokerRequests
    function getRequest(uint256 requestId) external view returns (Request memory) {
        return _request(requestId);
    }

    /// @inheritdoc IBrokerRequests
    function getRequestCount() external view returns (uint256) {
        return _counters.requests;
    }

    /// @inheritdoc IBrokerRequests
    function requests(uint256 index)
        external
        view
        returns (uint256, address, address, bytes memory, RequestStatus, bytes memory, uint256, uint256)
    {
        Request memory r = _request(index + 1);
        return (
            r.id,
            r.requester,
            r.nftContract,
            r.encryptedPayload,
            r.status,
            r.responsePayload,
            r.submittedAt,
            r.respondedAt
        );
    }

    /// @inheritdoc IBrokerRequests
    function requestDigest(uint256 requestId) external view returns (bytes32) {
        _checkId(requestId, _counters.requests);
        return _digest(requestId);
    }

    /// @inheritdoc IBrokerRequests
    function requesterToRequestIds(address requester, uint256 index) external view returns (uint256) {
        return _requesterToRequestIds[requester][index];
    }

    /// @inheritdoc IBrokerRequests
    function requestExpirationTime() external view returns (uint256) {
        return _counters.expirationTime;
    }

    /// @inheritdoc IBrokerRequests
    function getAvailableCapacity() external view returns (uint256) {
        if (totalCapacity == 0) return type(uint256).max;
        uint256 live = _liveCount(_counters);
        return live < totalCapacity ? totalCapacity - live : 0;
    }

    /// @inheritdoc IBrokerRequests
    function _activeCount() external view returns (uint256) {
        return _counters.active;
    }

    /// @inheritdoc IBrokerRequests
    function _pendingCount() external view returns (uint256) {
        return _counters.pending;
    }

    /// @inheritdoc IBrokerRequests
    function releaseCount() external view returns (uint256) {
        return _counters.released;
    }

    /// @dev Makes a pending request Approved. Its response begins at `offset` of the latest data contract.
    function _approve(Counters memory counters, uint256 requestId, uint256 offset, bytes calldata payload) private {
        StoredRequest storage request = _requests[requestId];
        State memory state = request.state;
        state.status = RequestStatus.Approved;
        // None of these can be cut off: at most 7 days; below 24,576; at most 4,096.
        state.answeredAfter = uint24(block.timestamp - request.submission.submittedAt);
        state.responseNonce = counters.dataContracts;
        state.responseOffset = uint16(offset);
        state.responseLength = uint16(payload.length);
        request.state = state;
        counters.pending--;
        counters.active++;
        emit ResponseSubmitted(requestId, RequestStatus.Approved, payload);
    }

    /// @dev Ends a live request: it leaves the mapping, the counters and its status behind.
    function _close(Counters memory counters, uint256 requestId) private {
        StoredRequest storage request = _requests[requestId];
        if (request.state.status == RequestStatus.Pending) counters.pending--;
        else counters.active--;
        request.state.status = RequestStatus.Expired;
        request.submission.closedAt = SafeCast.toUint32(block.timestamp);
        delete nftContractToRequestId[request.state.nftContract];
    }

    function _checkNftOwner(address nftContract) private view {
        if (nftContract == address(0)) revert ZeroAddress();
        if (!NftProbe.isErc721(nftContract)) revert NotErc721(nftContract);
        address nftOwner = NftProbe.findOwner(nftContract);
        if (msg.sender != nftOwner) revert NotNftOwner(msg.sender, nftOwner);
    }

    function _checkCapacity(Counters memory counters) private view {
        uint256 capacity = totalCapacity;
        if (capacity != 0 && _liveCount(counters) >= capacity) revert CapacityExhausted(capacity);
    }

    function _isAnswerable(Counters memory counters, uint256 requestId, bytes32 digest) private view returns (bool) {
        return _isPending(counters, requestId) && block.timestamp <= _expiresAt(counters, requestId)
            && digest == _digest(requestId);
    }

    /// @dev Whether there is such a request and it waits for an answer, in time or not.
    function _isPending(Counters memory counters, uint256 requestId) private view returns (bool) {
        return requestId != 0 && requestId <= counters.requests
            && _requests[requestId].state.status == RequestStatus.Pending;
    }

    /// @dev The last second in which the request may be answered.
    function _expiresAt(Counters memory counters, uint256 requestId) private view returns (uint256) {
        return uint256(_requests[requestId].submission.submittedAt) + counters.expirationTime;
    }

    function _digest(uint256 requestId) private view returns (bytes32) {
        StoredRequest storage request = _requests[requestId];
        Submission memory submission = request.submission;
        bytes32 payloadHash = DataContracts.addressOf(address(this), submission.payloadNonce).codehash;
        return keccak256(
            abi.encode(
                block.chainid,
                address(this),
                requestId,
                submission.requester,
                request.state.nftContract,
                payloadHash
            )
        );
    }

    function _request(uint256 requestId) private view returns (Request memory) {
        _checkId(requestId, _counters.requests);
        Submission memory submission = _requests[requestId].submission;
        State memory state = _requests[requestId].state;
        address payload = DataContracts.addressOf(address(this), submission.payloadNonce);
        return Request({
            id: requestId,
            requester: submission.requester,
            nftContract: state.nftContract,
            encryptedPayload: DataContracts.read(payload, 0, DataContracts.lengthOf(payload)),
            status: state.status,
            responsePayload: _response(state),
            submittedAt: submission.submittedAt,
            respondedAt: _respondedAt(submission, state)
        });
    }

    function _response(State memory state) private view returns (bytes memory) {
        address holder = DataContracts.addressOf(address(this), state.responseNonce);
        return DataContracts.read(holder, state.responseOffset, state.responseLength);
    }

    function _respondedAt(Submission memory submission, State memory state) private pure returns (uint256) {
        if (submission.closedAt != 0) return submission.closedAt;
        if (state.status == RequestStatus.Pending) return 0;
        return uint256(submission.submittedAt) + state.answeredAfter;
    }

    function _checkId(uint256 requestId, uint256 count) private pure {
        if (requestId == 0 || requestId > count) revert InvalidRequestId(requestId);
    }

    /// @dev The length of all payloads together, once each has been found valid.
    function _checkPayloads(bytes[] calldata payloads) private pure returns (uint256 length) {
        for (uint256 i = 0; i < payloads.length; i++) {
            _checkPayload(payloads[i].length);
            length += payloads[i].length;
        }
    }

    function _checkPayload(uint256 length) private pure {
        if (length == 0 || length > MAX_PAYLOAD) revert InvalidPayloadLength(length, MAX_PAYLOAD);
    }

    function _liveCount(Counters memory counters) private pure returns (uint256) {
        return uint256(counters.pending) + counters.active;
    }
}
